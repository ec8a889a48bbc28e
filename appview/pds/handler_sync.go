package pds

import (
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

const carType = "application/vnd.ipld.car"

// carWriter names the content type with the first bytes, so that an error before them can still be answered.
type carWriter struct {
	http.ResponseWriter
	began bool
}

func (c *carWriter) Write(p []byte) (int, error) {
	if !c.began {
		c.began = true
		c.Header().Set("Content-Type", carType)
	}
	return c.ResponseWriter.Write(p)
}

// ended answers err, or cuts the connection when half a CAR file is out already: the client must not take it for whole.
func (c *carWriter) ended(err error) error {
	if err != nil && c.began {
		panic(http.ErrAbortHandler)
	}
	return err
}

func (h *handler) getRepo(w http.ResponseWriter, r *http.Request) error {
	did, err := h.didParam(r)
	if err != nil {
		return err
	}
	since := r.URL.Query().Get("since")
	if since != "" {
		if _, err := syntax.ParseTID(since); err != nil {
			return InvalidRequest("since must be a revision")
		}
	}
	out := &carWriter{ResponseWriter: w}
	return out.ended(h.e.WriteRepoCAR(r.Context(), did, since, out))
}

func (h *handler) getRecordProof(w http.ResponseWriter, r *http.Request) error {
	did, err := h.didParam(r)
	if err != nil {
		return err
	}
	collection, rkey, err := recordParams(r)
	if err != nil {
		return err
	}
	out := &carWriter{ResponseWriter: w}
	return out.ended(h.e.WriteRecordProofCAR(r.Context(), did, collection, rkey, out))
}

func (h *handler) getBlob(w http.ResponseWriter, r *http.Request) error {
	did, err := h.didParam(r)
	if err != nil {
		return err
	}
	c, err := cidParam(r.URL.Query().Get("cid"))
	if err != nil {
		return err
	}
	blob, err := h.e.OpenBlob(r.Context(), did, c)
	if errors.Is(err, ErrBlobNotFound) {
		return InvalidRequest("Blob not found")
	}
	if err != nil {
		return err
	}
	defer blob.Close()
	header := w.Header()
	header.Set("Content-Type", blob.MimeType)
	header.Set("ETag", `"`+c.String()+`"`)
	// The bytes are a stranger's: no browser may guess their type, show them or run them.
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Disposition", `attachment; filename="`+c.String()+`"`)
	header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	http.ServeContent(w, r, "", blob.ModTime, blob)
	return nil
}

func (h *handler) getLatestCommit(w http.ResponseWriter, r *http.Request) error {
	did, err := h.didParam(r)
	if err != nil {
		return err
	}
	c, err := h.e.LatestCommit(r.Context(), did)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, commitView(c))
	return nil
}

func (h *handler) getRepoStatus(w http.ResponseWriter, r *http.Request) error {
	did, err := h.didParam(r)
	if err != nil {
		return err
	}
	c, err := h.e.LatestCommit(r.Context(), did)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, map[string]any{"did": did, "active": true, "rev": c.Rev})
	return nil
}

func (h *handler) listRepos(w http.ResponseWriter, r *http.Request) error {
	limit, err := intParam(r, "limit", 1, 1000)
	if err != nil {
		return err
	}
	repos, cursor, err := h.e.ListRepos(r.Context(), r.URL.Query().Get("cursor"), limit)
	if err != nil {
		return err
	}
	views := make([]map[string]any, 0, len(repos))
	for _, repo := range repos {
		views = append(views, map[string]any{"did": repo.DID, "head": repo.Head.String(), "rev": repo.Rev, "active": true})
	}
	out := map[string]any{"repos": views}
	if cursor != "" {
		out["cursor"] = cursor
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}
