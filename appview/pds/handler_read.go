package pds

import (
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// recordView is a record in com.atproto.repo answers.
type recordView struct {
	URI   syntax.ATURI   `json:"uri"`
	CID   string         `json:"cid"`
	Value map[string]any `json:"value"`
}

func viewOf(r Record) recordView {
	return recordView{URI: r.URI, CID: r.CID.String(), Value: r.Value}
}

func (h *handler) describeRepo(w http.ResponseWriter, r *http.Request) error {
	did, err := h.repoParam(r.Context(), r.URL.Query().Get("repo"))
	if err != nil {
		return err
	}
	collections, err := h.e.Collections(r.Context(), did)
	if err != nil {
		return err
	}
	handle, doc := "handle.invalid", any(map[string]any{})
	if h.cfg.Identity != nil {
		if handle, doc, err = h.cfg.Identity(r.Context(), did); err != nil {
			return err
		}
	}
	WriteJSON(w, http.StatusOK, map[string]any{
		"handle": handle, "did": did, "didDoc": doc, "collections": collections, "handleIsCorrect": handle != "handle.invalid",
	})
	return nil
}

func (h *handler) getRecord(w http.ResponseWriter, r *http.Request) error {
	did, err := h.repoParam(r.Context(), r.URL.Query().Get("repo"))
	if err != nil {
		return err
	}
	collection, rkey, err := recordParams(r)
	if err != nil {
		return err
	}
	record, err := h.e.GetRecord(r.Context(), did, collection, rkey)
	if err != nil {
		return err
	}
	if want := r.URL.Query().Get("cid"); want != "" && want != record.CID.String() {
		return ErrRecordNotFound
	}
	WriteJSON(w, http.StatusOK, viewOf(record))
	return nil
}

func (h *handler) listRecords(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	did, err := h.repoParam(r.Context(), q.Get("repo"))
	if err != nil {
		return err
	}
	collection, err := syntax.ParseNSID(q.Get("collection"))
	if err != nil {
		return InvalidRequest("collection is required and must be an NSID")
	}
	limit, err := intParam(r, "limit", 1, maxListLimit)
	if err != nil {
		return err
	}
	records, _, err := h.e.ListRecords(r.Context(), did, collection, ListOptions{Limit: limit, Cursor: q.Get("cursor"), Reverse: q.Get("reverse") == "true"})
	if err != nil {
		return err
	}
	views := make([]recordView, 0, len(records))
	for _, record := range records {
		views = append(views, viewOf(record))
	}
	out := map[string]any{"records": views}
	if len(records) > 0 {
		// Also on the last page, as the reference PDS: the page after it is empty and has no cursor.
		out["cursor"] = records[len(records)-1].RKey
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}
