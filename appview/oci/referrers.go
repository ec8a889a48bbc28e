package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/spec"
)

// Limits of one answer, the rest follows by Link: how many referrers it lists, how many bytes of annotations they have
// (clients refuse answers over 4 MiB), and how many bytes of manifests are read for those that only a tag names.
const (
	referrersPage  = 500
	referrersBytes = 3 << 20
	referrersRead  = 8 * spec.MaxManifestSize
)

// referrer is a descriptor in the list; its annotations are JSON.
type referrer struct {
	MediaType    string          `json:"mediaType"`
	Digest       digest.Digest   `json:"digest"`
	Size         int64           `json:"size"`
	Annotations  json.RawMessage `json:"annotations,omitempty"`
	ArtifactType string          `json:"artifactType,omitempty"`
}

// listReferrers answers GET /v2/<name>/referrers/<digest>: an image index of the manifests whose subject is the digest,
// empty when there is none (OCI distribution-spec 1.1, "Listing Referrers").
func (r *Registry) listReferrers(w http.ResponseWriter, q *request) error {
	d, ok := spec.ParseDigest(q.Ref)
	if !ok {
		return invalidDigest(q.Ref)
	}
	artifactType, last := q.param("artifactType"), q.param("last")
	if _, ok := spec.ParseDigest(last); last != "" && !ok {
		return invalidDigest(last) // no page begins there: links name digests
	}
	var body []byte
	var next digest.Digest
	err := r.byAuthor(q, func() (err error) {
		body, next, err = r.referrersPage(q, index.ReferrersKey{Repository: q.Name.Repository, Subject: d, ArtifactType: artifactType, Last: last})
		return err
	})
	if errors.Is(err, index.ErrNotFound) {
		body = []byte(noReferrers)
	} else if err != nil {
		return err
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if next != "" {
		link := url.Values{"last": {string(next)}}
		if artifactType != "" {
			link.Set("artifactType", artifactType)
		}
		w.Header().Set("Link", nextLink("/v2/"+q.Name.String()+"/referrers/"+string(d), link))
	}
	w.Header().Set("Cache-Control", "no-cache")
	writeBody(w, q.Request, spec.MediaTypeImageIndex, body)
	return nil
}

const noReferrers = `{"schemaVersion":2,"mediaType":"` + spec.MediaTypeImageIndex + `","manifests":[]}`

// referrersPage is the body of an answer, and the digest that the next page begins after; [index.ErrNotFound] when there are
// none. What is remembered of it has the digest in its first line.
func (r *Registry) referrersPage(q *request, of index.ReferrersKey) (body []byte, next digest.Digest, err error) {
	page, err := r.Records.Page(q.Context(), q.Owner, of, func() ([]byte, bool, error) {
		list, next, lasting, err := r.referrers(q, of.Subject, of.ArtifactType, of.Last)
		if err == nil && len(list) == 0 && next == "" {
			err = index.ErrNotFound
		}
		if err != nil {
			return nil, false, err
		}
		body, err := json.Marshal(struct {
			SchemaVersion int        `json:"schemaVersion"`
			MediaType     string     `json:"mediaType"`
			Manifests     []referrer `json:"manifests"`
		}{2, spec.MediaTypeImageIndex, list})
		return slices.Concat([]byte(next), []byte("\n"), body), lasting, err
	})
	line, body, _ := bytes.Cut(page, []byte("\n"))
	return body, digest.Digest(line), err
}

// referrers is one page of them, of q.Owner's, and the digest that the next page begins after; empty when there is none. It
// lasts as long as the owner's records unless bytes say more than these: those of an index, or of a referrer that was not read.
func (r *Registry) referrers(q *request, d digest.Digest, artifactType, last string) (list []referrer, next digest.Digest, lasting bool, err error) {
	found, more, err := r.Records.Referrers(q.Context(), q.Owner, q.Name.Repository, d, artifactType, last, referrersPage, referrersBytes)
	if err != nil {
		return nil, "", false, err
	}
	list, lasting = make([]referrer, 0, len(found)), true
	for _, m := range found {
		lasting = lasting && m.Size > 0
		list = append(list, referrer{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations})
	}
	if more {
		next = list[len(list)-1].Digest
	}
	fallback, err := r.Records.Tagged(q.Context(), q.Owner, q.Name.Repository, referrersTag(d))
	if err == nil {
		lasting = false
		tagged, end, err := r.taggedReferrers(q, fallback, d, artifactType, last, next)
		if err != nil {
			return nil, "", false, err
		}
		if list = append(list, tagged...); end != "" {
			next = end
		}
	} else if !errors.Is(err, index.ErrNotFound) {
		return nil, "", false, err
	}
	slices.SortFunc(list, func(a, b referrer) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	list, next = cut(list, next)
	return list, next, lasting, nil
}

// cut ends a page after next, if it is not the last, and where its limits are reached. The first referrer is always in it.
func cut(list []referrer, next digest.Digest) ([]referrer, digest.Digest) {
	bytes := 0
	for i, m := range list {
		if next != "" && m.Digest > next {
			return list[:i], next
		}
		bytes += len(m.Annotations)
		if i > 0 && (i == referrersPage || bytes > referrersBytes) {
			return list[:i], list[i-1].Digest
		}
	}
	return list, next
}

// taggedReferrers are the manifests that only fallback names, the index under the fall-back tag of d (distribution-spec 1.1,
// "Referrers Tag Schema"): clients keep them there for registries without the referrers API, copies bring the tag along,
// and they may lack a subject. Those with the subject are found by their records. What cannot be served is left out. They
// are those after last, up to until if it is not empty; end is where the limits of a page ended the search, if they did.
func (r *Registry) taggedReferrers(q *request, fallback *index.Manifest, d digest.Digest, artifactType, last string, until digest.Digest) (list []referrer, end digest.Digest, err error) {
	var entries []digest.Digest
	if err := r.document(q, fallback, func(doc *spec.Document, _ int64) {
		for _, entry := range doc.Manifests {
			if string(entry.Digest) > last && (until == "" || entry.Digest <= until) {
				entries = append(entries, entry.Digest)
			}
		}
	}); err != nil {
		return nil, "", err
	}
	slices.Sort(entries)
	room, unread := referrersBytes, int64(referrersRead)
	for i, entry := range slices.Compact(entries) {
		if i == referrersPage || room < 0 || unread < spec.MaxManifestSize {
			return list, entries[i-1], nil
		}
		m, err := r.Records.Manifest(q.Context(), q.Owner, q.Name.Repository, entry)
		if errors.Is(err, index.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if m.Subject == d {
			continue
		}
		read := int64(spec.MaxManifestSize) // also of one that turns out to be useless
		err = r.document(q, m, func(doc *spec.Document, size int64) {
			read = size
			if doc.Subject != nil && doc.Subject.Digest == d || artifactType != "" && doc.Referrer() != artifactType {
				return
			}
			listed := referrer{MediaType: doc.MediaType, Digest: entry, Size: size, ArtifactType: index.ArtifactType(doc), Annotations: index.Annotations(doc)}
			room -= len(listed.Annotations)
			list = append(list, listed)
		})
		if err != nil {
			return nil, "", err
		}
		unread -= read
	}
	return list, "", nil
}

// referrersTag is the fall-back tag of a digest: at most 32 characters of the algorithm, 64 of the rest.
func referrersTag(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded()[:64] }

// document gives use a manifest and the size of its bytes, unless it cannot be served.
func (r *Registry) document(q *request, m *index.Manifest, use func(*spec.Document, int64)) error {
	err := r.Records.Document(q.Context(), m, use)
	if err == nil || q.Context().Err() != nil {
		return err
	}
	r.Log.InfoContext(q.Context(), "a manifest is left out of a list of referrers: its bytes cannot be read", "did", q.Owner, "digest", m.Digest, "error", err)
	return nil
}
