package oci

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/spec"
)

// Limits of one answer, the rest follows by Link: how many referrers it lists, and how many bytes they say of themselves
// (clients refuse answers over 4 MiB).
const (
	referrersPage  = 500
	referrersBytes = 3 << 20
)

// listReferrers answers GET /v2/<name>/referrers/<digest>: an image index of the manifests whose subject is the digest,
// empty when there is none (OCI distribution-spec 1.1, "Listing Referrers").
func (r *Registry) listReferrers(w http.ResponseWriter, q *request) error {
	d, ok := spec.ParseDigest(q.Ref)
	if !ok {
		return invalidDigest(q.Ref)
	}
	query := q.URL.Query()
	artifactType := query.Get("artifactType")
	last := query.Get("last")
	var list []spec.Descriptor
	var more bool
	err := r.byDigest(q, func() (err error) {
		if list, more, err = r.referrers(q, d, artifactType, last); err == nil && len(list) == 0 {
			return index.ErrNotFound
		}
		return err
	})
	if errors.Is(err, index.ErrNotFound) {
		list = []spec.Descriptor{}
	} else if err != nil {
		return err
	}
	out := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []spec.Descriptor `json:"manifests"`
	}{2, spec.MediaTypeImageIndex, list}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if more && len(list) > 0 {
		next := url.Values{"last": {string(list[len(list)-1].Digest)}, "n": {strconv.Itoa(referrersPage)}}
		if artifactType != "" {
			next.Set("artifactType", artifactType)
		}
		w.Header().Set("Link", nextLink("/v2/"+q.Name.String()+"/referrers/"+string(d), next))
	}
	w.Header().Set("Cache-Control", "no-cache")
	return writeJSON(w, q.Request, spec.MediaTypeImageIndex, out)
}

// referrers is one page of them, of q.Owner's.
func (r *Registry) referrers(q *request, d digest.Digest, artifactType, last string) (list []spec.Descriptor, more bool, err error) {
	found, more, err := r.Records.Referrers(q.Context(), q.Owner, q.Name.Repository, d, artifactType, last, referrersPage)
	if err != nil {
		return nil, false, err
	}
	for _, m := range found {
		list = append(list, spec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size,
			ArtifactType: m.ArtifactType, Annotations: m.Annotations})
	}
	tagged, err := r.taggedReferrers(q, d)
	if err != nil {
		return nil, false, err
	}
	for _, t := range tagged {
		behind := more && t.Digest > list[len(list)-1].Digest
		if string(t.Digest) > last && !behind && (artifactType == "" || t.ArtifactType == artifactType) {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b spec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	list, more = cut(list, more)
	return list, more, nil
}

// cut ends a page where its limits are reached. The first referrer is always in it.
func cut(list []spec.Descriptor, more bool) ([]spec.Descriptor, bool) {
	bytes := 0
	for i, m := range list {
		bytes += 512 // digest, size, field names
		for k, v := range m.Annotations {
			bytes += 6 * (len(k) + len(v)) // JSON writes a control character in six
		}
		if i > 0 && (i == referrersPage || bytes > referrersBytes) {
			return list[:i], true
		}
	}
	return list, more
}

// taggedReferrers are the manifests that only the index under the fall-back tag of d names (distribution-spec 1.1,
// "Referrers Tag Schema"): clients keep them there for registries without the referrers API, copies bring the tag along,
// and they may lack a subject. Those with the subject are found by their records. What cannot be served is left out.
func (r *Registry) taggedReferrers(q *request, d digest.Digest) ([]spec.Descriptor, error) {
	tagged, err := r.Records.Tagged(q.Context(), q.Owner, q.Name.Repository, referrersTag(d))
	if errors.Is(err, index.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, _, err := r.document(q, tagged.Digest)
	if err != nil || list == nil {
		return nil, err
	}
	var out []spec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, entry := range list.Manifests[:min(len(list.Manifests), referrersPage)] {
		if seen[entry.Digest] {
			continue
		}
		seen[entry.Digest] = true
		m, size, err := r.document(q, entry.Digest)
		if err != nil {
			return nil, err
		}
		if m == nil || m.Subject != nil && m.Subject.Digest == d {
			continue
		}
		out = append(out, spec.Descriptor{MediaType: m.MediaType, Digest: entry.Digest, Size: size,
			ArtifactType: m.Referrer(), Annotations: m.Annotations})
	}
	return out, nil
}

// referrersTag is the fall-back tag of a digest: at most 32 characters of the algorithm, 64 of the rest.
func referrersTag(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded()[:64] }

// document is a manifest of the repository with the size of its bytes; nil when it cannot be served.
func (r *Registry) document(q *request, d digest.Digest) (*spec.Document, int64, error) {
	m, err := r.Records.Manifest(q.Context(), q.Owner, q.Name.Repository, d)
	if errors.Is(err, index.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	body, err := r.Records.Bytes(q.Context(), m)
	if err != nil {
		r.Log.InfoContext(q.Context(), "a manifest is left out of a list of referrers: its bytes cannot be read", "did", q.Owner, "digest", d, "error", err)
		return nil, 0, nil
	}
	doc, err := spec.ParseManifest(body, "")
	if err != nil {
		return nil, 0, nil // pushed through another AppView, which takes what we would not
	}
	return doc, int64(len(body)), nil
}
