package pds

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// Limits of the XRPC surface, as the reference PDS has them.
const (
	DefaultMaxBlobBytes = 5 << 20
	MaxJSONBytes        = 1_000_000
)

// HandlerConfig is what the XRPC handler needs beside the engine.
type HandlerConfig struct {
	// ServiceDID and UserDomains are told by com.atproto.server.describeServer.
	ServiceDID  syntax.DID
	UserDomains []string
	// Authorize returns the DID of the one repository that the request may write to. Return an *XRPCError to choose
	// the answer; any other error is 401 AuthenticationRequired. nil: no writes at all.
	Authorize func(*http.Request) (syntax.DID, error)
	// ResolveHandle finds the DID of a handle given as `repo`; nil: only DIDs are understood.
	ResolveHandle func(context.Context, syntax.Handle) (syntax.DID, error)
	// Identity tells the handle and the DID document of a hosted DID for describeRepo; nil: handle.invalid and no document.
	Identity func(context.Context, syntax.DID) (handle string, didDocument any, err error)
	// MaxBlobBytes bounds uploadBlob. Zero: 5 MiB, as the reference PDS.
	MaxBlobBytes int64
}

type handler struct {
	e   *Engine
	cfg HandlerConfig
}

// NewHandler serves /xrpc/com.atproto.{repo,sync}.* and com.atproto.server.describeServer.
func NewHandler(e *Engine, cfg HandlerConfig) http.Handler {
	if cfg.MaxBlobBytes == 0 {
		cfg.MaxBlobBytes = DefaultMaxBlobBytes
	}
	h := &handler{e: e, cfg: cfg}
	return Methods{
		"com.atproto.server.describeServer": {http.MethodGet, h.describeServer},

		"com.atproto.repo.describeRepo": {http.MethodGet, h.describeRepo},
		"com.atproto.repo.getRecord":    {http.MethodGet, h.getRecord},
		"com.atproto.repo.listRecords":  {http.MethodGet, h.listRecords},

		"com.atproto.repo.createRecord": {http.MethodPost, h.createRecord},
		"com.atproto.repo.putRecord":    {http.MethodPost, h.putRecord},
		"com.atproto.repo.deleteRecord": {http.MethodPost, h.deleteRecord},
		"com.atproto.repo.applyWrites":  {http.MethodPost, h.applyWrites},
		"com.atproto.repo.uploadBlob":   {http.MethodPost, h.uploadBlob},

		"com.atproto.sync.getBlob":         {http.MethodGet, h.getBlob},
		"com.atproto.sync.getRepo":         {http.MethodGet, h.getRepo},
		"com.atproto.sync.getRecord":       {http.MethodGet, h.getRecordProof},
		"com.atproto.sync.getLatestCommit": {http.MethodGet, h.getLatestCommit},
		"com.atproto.sync.getRepoStatus":   {http.MethodGet, h.getRepoStatus},
		"com.atproto.sync.listRepos":       {http.MethodGet, h.listRepos},
		"com.atproto.sync.subscribeRepos":  {http.MethodGet, h.subscribeRepos},
	}.Handler(e.log, nil)
}

func (h *handler) describeServer(w http.ResponseWriter, _ *http.Request) error {
	domains := h.cfg.UserDomains
	if domains == nil {
		domains = []string{}
	}
	WriteJSON(w, http.StatusOK, map[string]any{
		"did":                  h.cfg.ServiceDID,
		"availableUserDomains": domains,
		"inviteCodeRequired":   false,
		"blobUploadLimit":      h.cfg.MaxBlobBytes,
		"links":                map[string]any{},
		"contact":              map[string]any{},
	})
	return nil
}

// repoParam resolves a handle or DID to a hosted repository.
func (h *handler) repoParam(ctx context.Context, repo string) (syntax.DID, error) {
	if repo == "" {
		return "", InvalidRequest("repo is required: a handle or a DID")
	}
	did, err := syntax.ParseDID(repo)
	if err != nil {
		handle, herr := syntax.ParseHandle(repo)
		if herr != nil {
			return "", InvalidRequest("repo must be a handle or a DID")
		}
		if h.cfg.ResolveHandle == nil {
			return "", ErrRepoNotFound
		}
		if did, err = h.cfg.ResolveHandle(ctx, handle.Normalize()); err != nil {
			return "", err
		}
	}
	has, err := h.e.HasRepo(ctx, did)
	if err == nil && !has {
		err = ErrRepoNotFound
	}
	return did, err
}

// didParam is the `did` of the sync methods.
func (h *handler) didParam(r *http.Request) (syntax.DID, error) {
	did, err := syntax.ParseDID(r.URL.Query().Get("did"))
	if err != nil {
		return "", InvalidRequest("did is required and must be a DID")
	}
	return did, nil
}

func recordParams(r *http.Request) (syntax.NSID, syntax.RecordKey, error) {
	collection, err := syntax.ParseNSID(r.URL.Query().Get("collection"))
	if err != nil {
		return "", "", InvalidRequest("collection is required and must be an NSID")
	}
	rkey, err := syntax.ParseRecordKey(r.URL.Query().Get("rkey"))
	if err != nil {
		return "", "", InvalidRequest("rkey is required and must be a record key")
	}
	return collection, rkey, nil
}

// intParam is a query parameter between low and high, or 0 when absent.
func intParam(r *http.Request, name string, low, high int) (int, error) {
	raw := r.URL.Query().Get(name)
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < low || n > high {
		return 0, InvalidRequest("%s must be an integer from %d to %d", name, low, high)
	}
	return n, nil
}

func cidParam(raw string) (cid.Cid, error) {
	c, err := cid.Decode(raw)
	if err != nil {
		return cid.Undef, InvalidRequest("Invalid CID")
	}
	return c, nil
}

// authorize lets a request write to the repository it names.
func (h *handler) authorize(r *http.Request) (syntax.DID, error) {
	missing := &XRPCError{http.StatusUnauthorized, "AuthenticationRequired", "Authentication Required"}
	if h.cfg.Authorize == nil {
		return "", missing
	}
	did, err := h.cfg.Authorize(r)
	var x *XRPCError
	if err != nil && !errors.As(err, &x) {
		return "", missing
	}
	return did, err
}
