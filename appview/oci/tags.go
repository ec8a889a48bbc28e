package oci

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// listTags answers GET /v2/<name>/tags/list, in byte order, with a Link to the next page.
func (r *Registry) listTags(w http.ResponseWriter, q *request) error {
	n, last, err := page(q)
	if err != nil {
		return err
	}
	if err := r.byName(q); err != nil {
		return err
	}
	tags, more, err := r.Records.Tags(q.Context(), q.Owner, q.Name.Repository, last, n)
	if err != nil {
		return err
	}
	if len(tags) == 0 && last == "" && n > 0 {
		known, err := r.Records.HasRepository(q.Context(), q.Owner, q.Name.Repository)
		if err != nil {
			return err
		}
		if !known {
			return fail(errcode.ErrorCodeNameUnknown, "There is no repository "+quote(q.Name.String())+".",
				"Check the spelling, or push an image to make it.").with(map[string]string{"name": q.Name.String()})
		}
	}
	if more && len(tags) > 0 {
		w.Header().Set("Link", nextLink("/v2/"+q.Name.String()+"/tags/list",
			url.Values{"n": {strconv.Itoa(n)}, "last": {tags[len(tags)-1]}}))
	}
	if tags == nil {
		tags = []string{}
	}
	w.Header().Set("Cache-Control", "no-cache")
	return writeJSON(w, q.Request, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{q.Name.String(), tags})
}
