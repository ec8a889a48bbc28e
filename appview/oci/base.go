package oci

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"atcr.io/operator/appview/oci/spec"
)

// maxPage bounds every list (n=1000 is what clients ask for).
const maxPage = 1000

// base answers GET /v2/: the registry speaks version 2, and the token is good.
func (r *Registry) base(w http.ResponseWriter, q *request) error {
	return writeJSON(w, q.Request, "application/json", struct{}{})
}

// listRepositories answers GET /v2/_catalog with the repositories of whoever asks: there is no list of everybody's.
func (r *Registry) listRepositories(w http.ResponseWriter, q *request) error {
	n, last, err := page(q)
	if err != nil {
		return err
	}
	me := q.reader()
	if me == "" {
		return fail(errcode.ErrorCodeDenied, "The catalog lists your own repositories, and you are not logged in.", "Log in first.")
	}
	component, err := r.Owners.Component(q.Context(), me)
	if err != nil {
		return err
	}
	names, more, err := r.Records.Repositories(q.Context(), me, strings.TrimPrefix(last, component+"/"), n)
	if err != nil {
		return err
	}
	for i := range names {
		names[i] = component + "/" + names[i]
	}
	if more && len(names) > 0 {
		w.Header().Set("Link", nextLink("/v2/_catalog", url.Values{"n": {strconv.Itoa(n)}, "last": {names[len(names)-1]}}))
	}
	if names == nil {
		names = []string{}
	}
	return writeJSON(w, q.Request, "application/json", map[string][]string{"repositories": names})
}

// page reads n and last of a list request.
func page(q *request) (n int, last string, err error) {
	query := q.URL.Query()
	n, ok := spec.ParsePageSize(query.Get("n"), maxPage)
	if !ok {
		return 0, "", fail(errcode.ErrorCodePaginationNumberInvalid, "The page size n must be a number that is not negative.",
			"Ask with n between 1 and "+strconv.Itoa(maxPage)+".")
	}
	return n, query.Get("last"), nil
}

// nextLink is an RFC 5988 Link to the next page: a bare path, which every proxy in between leaves right.
func nextLink(path string, query url.Values) string {
	return fmt.Sprintf(`<%s?%s>; rel="next"`, path, query.Encode())
}

func writeJSON(w http.ResponseWriter, req *http.Request, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	writeBody(w, req, contentType, body)
	return nil
}

func writeBody(w http.ResponseWriter, req *http.Request, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if req.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have left
	}
}
