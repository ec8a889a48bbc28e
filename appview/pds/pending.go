package pds

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// The bodies of this file are being replaced, the signatures stay.

var errPending = errors.New("not written yet")

// Engine hosts repositories on one folder. Safe for concurrent use; one process per folder.
type Engine struct{}

// Open opens or creates the engine's folder, migrates the schema and starts the hourly sweep of unreferenced blobs.
func Open(ctx context.Context, cfg Config) (*Engine, error) { return nil, errPending }

// Close stops the sweep and the subscriptions and closes the database.
func (e *Engine) Close() error { return errPending }

// Ping reports whether the database answers; for health endpoints.
func (e *Engine) Ping(ctx context.Context) error { return errPending }

// CreateRepo makes an empty repository with a first signed commit (ErrRepoExists).
func (e *Engine) CreateRepo(ctx context.Context, repo NewRepo) error { return errPending }

// HasRepo reports whether the engine hosts the DID.
func (e *Engine) HasRepo(ctx context.Context, did syntax.DID) (bool, error) { return false, errPending }

// SigningKey of a repository (ErrRepoNotFound).
func (e *Engine) SigningKey(ctx context.Context, did syntax.DID) (atcrypto.PrivateKeyExportable, error) {
	return nil, errPending
}

// RotateKey replaces the signing key and signs a fresh commit with it; a no-op when the key is the same.
func (e *Engine) RotateKey(ctx context.Context, did syntax.DID, key atcrypto.PrivateKeyExportable) error {
	return errPending
}

// ListRepos pages through the hosted repositories, by creation.
func (e *Engine) ListRepos(ctx context.Context, cursor string, limit int) ([]RepoInfo, string, error) {
	return nil, "", errPending
}

// AnnounceIdentity emits an #identity event: consumers refresh the DID document.
func (e *Engine) AnnounceIdentity(ctx context.Context, did syntax.DID, handle string) error {
	return errPending
}

// ApplyWrites applies all writes in one commit, or none. swapCommit, when defined, must be the latest commit.
func (e *Engine) ApplyWrites(ctx context.Context, did syntax.DID, writes []Write, swapCommit cid.Cid) ([]WriteResult, Commit, error) {
	return nil, Commit{}, errPending
}

// GetRecord (ErrRecordNotFound, ErrRepoNotFound).
func (e *Engine) GetRecord(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (Record, error) {
	return Record{}, errPending
}

// ListRecords returns one page and the cursor of the next one, empty at the end.
func (e *Engine) ListRecords(ctx context.Context, did syntax.DID, collection syntax.NSID, opts ListOptions) ([]Record, string, error) {
	return nil, "", errPending
}

// Records walks a whole collection in ascending key order.
func (e *Engine) Records(ctx context.Context, did syntax.DID, collection syntax.NSID) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) { yield(Record{}, errPending) }
}

// Collections of a repository, sorted.
func (e *Engine) Collections(ctx context.Context, did syntax.DID) ([]syntax.NSID, error) {
	return nil, errPending
}

// LatestCommit of a repository.
func (e *Engine) LatestCommit(ctx context.Context, did syntax.DID) (Commit, error) {
	return Commit{}, errPending
}

// PutBlob stores a blob that waits for a record to reference it; maxBytes bounds it (ErrBlobTooLarge).
func (e *Engine) PutBlob(ctx context.Context, did syntax.DID, mimeType string, r io.Reader, maxBytes int64) (BlobRef, error) {
	return BlobRef{}, errPending
}

// OpenBlob opens a blob that a record references (ErrBlobNotFound).
func (e *Engine) OpenBlob(ctx context.Context, did syntax.DID, blob cid.Cid) (*Blob, error) {
	return nil, errPending
}

// WriteRepoCAR writes the current repository as a CAR file; with since, only blocks newer than that revision.
func (e *Engine) WriteRepoCAR(ctx context.Context, did syntax.DID, since string, w io.Writer) error {
	return errPending
}

// WriteRecordProofCAR writes the commit and the MST path that prove that a record exists or does not.
func (e *Engine) WriteRecordProofCAR(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey, w io.Writer) error {
	return errPending
}

// Subscription delivers events in order.
type Subscription struct{}

// Subscribe to the events after the sequence number cursor; a negative cursor means only new ones (ErrFutureCursor).
func (e *Engine) Subscribe(ctx context.Context, cursor int64) (*Subscription, error) {
	return nil, errPending
}

// Outdated reports that events after the cursor have been dropped already: the subscription starts at the oldest.
func (s *Subscription) Outdated() bool { return false }

// Next waits for the next event.
func (s *Subscription) Next(ctx context.Context) (Event, error) { return Event{}, errPending }

// HandlerConfig is what the XRPC handler needs beside the engine.
type HandlerConfig struct {
	// ServiceDID and UserDomains are told by com.atproto.server.describeServer.
	ServiceDID  syntax.DID
	UserDomains []string
	// Authorize returns the DID of the one repository that the request may write to. Return an *XRPCError to choose
	// the answer; any other error is 401 AuthRequired. nil: no writes at all.
	Authorize func(*http.Request) (syntax.DID, error)
	// ResolveHandle finds the DID of a handle given as `repo`; nil: only DIDs are understood.
	ResolveHandle func(context.Context, syntax.Handle) (syntax.DID, error)
	// Identity tells the handle and the DID document of a hosted DID for describeRepo; nil: handle.invalid and no document.
	Identity func(context.Context, syntax.DID) (handle string, didDocument any, err error)
	// MaxBlobBytes bounds uploadBlob. Zero: 5 MiB, as the reference PDS.
	MaxBlobBytes int64
}

// NewHandler serves /xrpc/com.atproto.{repo,sync}.* and com.atproto.server.describeServer.
func NewHandler(e *Engine, cfg HandlerConfig) http.Handler { return http.NotFoundHandler() }

// RecordOf turns a struct with JSON tags into a record value, through the data model's JSON form.
func RecordOf(v any) (map[string]any, error) { return nil, errPending }
