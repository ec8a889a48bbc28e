package pds

import (
	"io"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// Limits of one commit, as the reference PDS has them.
const (
	MaxWrites     = 200
	MaxEventBytes = 2_000_000
)

// Config of an engine.
type Config struct {
	// Dir holds the database (pds.sqlite) and the blobs; created with mode 0700 when missing.
	Dir    string
	Logger *slog.Logger
	// TempBlobTTL is how long an uploaded blob waits for a record that references it. Zero: one hour.
	TempBlobTTL time.Duration
	// EventRetention is how long events can be replayed to subscribers. Zero: 72 hours.
	EventRetention time.Duration
}

// NewRepo describes a repository to create.
type NewRepo struct {
	DID syntax.DID
	// Key signs the commits; it is stored in the database (mode 0600).
	Key atcrypto.PrivateKeyExportable
	// Handle is announced in the #identity event; empty when there is none.
	Handle string
}

// Op is what a [Write] does.
type Op int

const (
	// Create makes a new record; an empty RKey gets a new TID. Fails with ErrRecordExists.
	Create Op = iota + 1
	// Update replaces a record that must exist (ErrRecordNotFound).
	Update
	// Put creates or replaces.
	Put
	// Delete removes a record; an absent record is no error and makes no commit, unless MustExist.
	Delete
)

// Write is one change to one record.
type Write struct {
	Op         Op
	Collection syntax.NSID
	RKey       syntax.RecordKey
	// Value is the record in the AT Protocol data model: strings, bools, int/int64, []any, map[string]any,
	// atdata.CIDLink, atdata.Bytes, atdata.Blob. A missing $type becomes the collection. [RecordOf] makes one of a struct.
	Value map[string]any
	// MustExist makes the Delete of an absent record an ErrRecordNotFound.
	MustExist bool
	// Swap makes the write conditional on the record's current state; nil does not care.
	Swap *SwapRecord
}

// SwapRecord is the state that a record must be in; the zero value demands that it does not exist.
type SwapRecord struct{ CID cid.Cid }

// WriteResult answers one write, in the order of the call.
type WriteResult struct {
	// URI is at://did/collection/rkey.
	URI syntax.ATURI
	// CID of the record now; undefined after a delete.
	CID cid.Cid
	// Changed is false for an identical put and for a delete of an absent record.
	Changed bool
}

// Commit names a state of a repository.
type Commit struct {
	CID cid.Cid
	Rev syntax.TID
	// Changed is false when the writes changed nothing: CID and Rev are then those of the latest commit.
	Changed bool
}

// Record as stored.
type Record struct {
	URI        syntax.ATURI
	Collection syntax.NSID
	RKey       syntax.RecordKey
	CID        cid.Cid
	// Value uses atdata types for links, bytes and blobs; json.Marshal gives the XRPC form.
	Value map[string]any
}

// RepoInfo is one line of ListRepos.
type RepoInfo struct {
	DID  syntax.DID
	Head cid.Cid
	Rev  syntax.TID
}

// ListOptions of ListRecords, with the semantics of com.atproto.repo.listRecords.
type ListOptions struct {
	// Limit is 1..100; 0 means 50.
	Limit int
	// Cursor is the one of the page before.
	Cursor string
	// Reverse lists ascending keys; the default is descending.
	Reverse bool
}

// Blob is an open blob; close it.
type Blob struct {
	io.ReadSeekCloser
	MimeType string
	Size     int64
	CID      cid.Cid
	// ModTime is when it was uploaded.
	ModTime time.Time
}

// BlobRef is what a record holds to reference a blob.
type BlobRef = atdata.Blob

// EventKind is the type of a firehose message.
type EventKind string

// Kinds of events, as in com.atproto.sync.subscribeRepos.
const (
	EventCommit   EventKind = "#commit"
	EventIdentity EventKind = "#identity"
	EventAccount  EventKind = "#account"
	EventSync     EventKind = "#sync"
)

// Event is one firehose message.
type Event struct {
	Seq  int64
	Kind EventKind
	DID  syntax.DID
	Time time.Time
	// Frame is the whole binary websocket frame: DAG-CBOR header and body.
	Frame []byte
}
