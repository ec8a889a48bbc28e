package pds

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// recordInput is the input of createRecord, putRecord and deleteRecord.
type recordInput struct {
	Repo       string          `json:"repo"`
	Collection string          `json:"collection"`
	RKey       *string         `json:"rkey"`
	Validate   *bool           `json:"validate"`
	Record     json.RawMessage `json:"record"`
	SwapRecord json.RawMessage `json:"swapRecord"`
	SwapCommit string          `json:"swapCommit"`
}

// open authorizes the request, reads its input and checks that it is for the caller's own repository.
func (h *handler) open(w http.ResponseWriter, r *http.Request, into any, repo *string) (syntax.DID, error) {
	caller, err := h.authorize(r)
	if err != nil {
		return "", err
	}
	if err := ReadJSON(w, r, MaxJSONBytes, into); err != nil {
		return "", err
	}
	did, err := h.repoParam(r.Context(), *repo)
	if errors.Is(err, ErrRepoNotFound) {
		return "", &XRPCError{http.StatusForbidden, "AccountNotFound", "Account not found"}
	}
	if err != nil {
		return "", err
	}
	if did != caller {
		return "", &XRPCError{http.StatusUnauthorized, "AuthenticationRequired", "Authentication Required"}
	}
	return did, nil
}

func (in *recordInput) write(op Op) (Write, error) {
	w := Write{Op: op}
	var err error
	if w.Collection, err = syntax.ParseNSID(in.Collection); err != nil {
		return w, InvalidRequest("collection is required and must be an NSID")
	}
	if in.RKey == nil && op != Create {
		return w, InvalidRequest("rkey is required")
	}
	if in.RKey != nil {
		if w.RKey, err = syntax.ParseRecordKey(*in.RKey); err != nil {
			return w, InvalidRequest("Invalid record key")
		}
	}
	if op != Delete {
		if w.Value, err = parseInput(in.Record, in.Collection, in.Validate); err != nil {
			return w, err
		}
	}
	if len(in.SwapRecord) > 0 {
		var want *string
		if err := json.Unmarshal(in.SwapRecord, &want); err != nil {
			return w, InvalidRequest("swapRecord must be a CID or null")
		}
		w.Swap = &SwapRecord{}
		if want != nil {
			if w.Swap.CID, err = cidParam(*want); err != nil {
				return w, err
			}
		}
	}
	return w, nil
}

func parseInput(raw json.RawMessage, collection string, validate *bool) (map[string]any, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, InvalidRequest("the record is missing, or no object")
	}
	value, err := ParseRecord(raw)
	if err != nil {
		return nil, err
	}
	if validate != nil && *validate {
		// No lexicon is known here, so that a caller who insists on validation is told that there is none.
		return nil, InvalidRequest("Unknown lexicon type: %s", collection)
	}
	return value, nil
}

// validationStatus of a record: not checked, unless checking was declined.
func validationStatus(validate *bool, out map[string]any) map[string]any {
	if validate == nil {
		out["validationStatus"] = "unknown"
	}
	return out
}

func swapCommit(raw string) (cid.Cid, error) {
	if raw == "" {
		return cid.Undef, nil
	}
	return cidParam(raw)
}

// one does a single write for createRecord, putRecord and deleteRecord.
func (h *handler) one(w http.ResponseWriter, r *http.Request, op Op) error {
	var in recordInput
	did, err := h.open(w, r, &in, &in.Repo)
	if err != nil {
		return err
	}
	write, err := in.write(op)
	if err != nil {
		return err
	}
	swap, err := swapCommit(in.SwapCommit)
	if err != nil {
		return err
	}
	results, commit, err := h.e.ApplyWrites(r.Context(), did, []Write{write}, swap)
	if err != nil {
		return writeFailure(err)
	}
	out := map[string]any{}
	if commit.Changed {
		out["commit"] = commitView(commit)
	}
	if op != Delete {
		out["uri"], out["cid"] = results[0].URI, results[0].CID.String()
		validationStatus(in.Validate, out)
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}

func commitView(c Commit) map[string]string {
	return map[string]string{"cid": c.CID.String(), "rev": string(c.Rev)}
}

// writeFailure hides why a write does not fit the state: the reference PDS has no name for it and answers 500.
func writeFailure(err error) error {
	if errors.Is(err, ErrRecordExists) || errors.Is(err, ErrRecordNotFound) {
		return &XRPCError{http.StatusInternalServerError, "InternalServerError", "Internal Server Error"}
	}
	return err
}

func (h *handler) createRecord(w http.ResponseWriter, r *http.Request) error {
	return h.one(w, r, Create)
}

func (h *handler) putRecord(w http.ResponseWriter, r *http.Request) error { return h.one(w, r, Put) }

func (h *handler) deleteRecord(w http.ResponseWriter, r *http.Request) error {
	return h.one(w, r, Delete)
}

const applyWritesType = "com.atproto.repo.applyWrites#"

func (h *handler) applyWrites(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Repo     string `json:"repo"`
		Validate *bool  `json:"validate"`
		Writes   []struct {
			Type       string          `json:"$type"`
			Collection string          `json:"collection"`
			RKey       *string         `json:"rkey"`
			Value      json.RawMessage `json:"value"`
		} `json:"writes"`
		SwapCommit string `json:"swapCommit"`
	}
	did, err := h.open(w, r, &in, &in.Repo)
	if err != nil {
		return err
	}
	swap, err := swapCommit(in.SwapCommit)
	if err != nil {
		return err
	}
	if in.Writes == nil {
		return InvalidRequest("writes is required")
	}
	ops := map[string]Op{applyWritesType + "create": Create, applyWritesType + "update": Update, applyWritesType + "delete": Delete}
	writes := make([]Write, 0, len(in.Writes))
	for i, one := range in.Writes {
		op, ok := ops[one.Type]
		if !ok {
			return InvalidRequest("writes/%d: unknown $type", i)
		}
		record := recordInput{Collection: one.Collection, RKey: one.RKey, Validate: in.Validate, Record: one.Value}
		write, err := record.write(op)
		if err != nil {
			return fmt.Errorf("writes/%d: %w", i, err)
		}
		write.MustExist = true
		writes = append(writes, write)
	}
	results, commit, err := h.e.ApplyWrites(r.Context(), did, writes, swap)
	if err != nil {
		return writeFailure(err)
	}
	views := make([]map[string]any, 0, len(results))
	for i, result := range results {
		view := map[string]any{"$type": in.Writes[i].Type + "Result"}
		if writes[i].Op != Delete {
			view["uri"], view["cid"] = result.URI, result.CID.String()
			validationStatus(in.Validate, view)
		}
		views = append(views, view)
	}
	WriteJSON(w, http.StatusOK, map[string]any{"commit": commitView(commit), "results": views})
	return nil
}

func (h *handler) uploadBlob(w http.ResponseWriter, r *http.Request) error {
	did, err := h.authorize(r)
	if err != nil {
		return err
	}
	mimeType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return InvalidRequest("Request encoding (Content-Type) required but not provided")
	}
	if r.ContentLength > h.cfg.MaxBlobBytes {
		return ErrBlobTooLarge
	}
	blob, err := h.e.PutBlob(r.Context(), did, mimeType, r.Body, h.cfg.MaxBlobBytes)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, map[string]any{"blob": blob})
	return nil
}
