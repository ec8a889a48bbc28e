package oci

import (
	"net/http"
	"net/url"
	"strconv"

	"atcr.io/operator/appview/oci/spec"
)

// referrersPage is how many referrers one answer lists; the rest follows by Link.
const referrersPage = 500

// listReferrers answers GET /v2/<name>/referrers/<digest>: an image index of the manifests whose subject is the digest,
// empty when there is none (OCI distribution-spec 1.1, "Listing Referrers").
func (r *Registry) listReferrers(w http.ResponseWriter, q *request) error {
	d, ok := spec.ParseDigest(q.Ref)
	if !ok {
		return invalidDigest(q.Ref)
	}
	query := q.URL.Query()
	artifactType := query.Get("artifactType")
	list, more, err := r.Records.Referrers(q.Context(), q.Owner, q.Name.Repository, d, artifactType, query.Get("last"), referrersPage)
	if err != nil {
		return err
	}
	out := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []spec.Descriptor `json:"manifests"`
	}{2, spec.MediaTypeImageIndex, []spec.Descriptor{}}
	for _, m := range list {
		out.Manifests = append(out.Manifests, spec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size,
			ArtifactType: m.ArtifactType, Annotations: m.Annotations})
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if more {
		next := url.Values{"last": {string(list[len(list)-1].Digest)}, "n": {strconv.Itoa(referrersPage)}}
		if artifactType != "" {
			next.Set("artifactType", artifactType)
		}
		w.Header().Set("Link", nextLink("/v2/"+q.Name.String()+"/referrers/"+string(d), next))
	}
	w.Header().Set("Cache-Control", "no-cache")
	return writeJSON(w, q.Request, spec.MediaTypeImageIndex, out)
}
