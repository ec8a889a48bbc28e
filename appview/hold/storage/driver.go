package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// Driver stores blobs by digest (sha256 and sha512) and the parts of uploads. It is safe for concurrent use, but does
// not order a Delete against a Complete of the same digest, nor what is done with one upload: the hold does.
type Driver interface {
	// Traits says how clients should upload.
	Traits() Traits

	// Begin prepares an upload. The id comes from [NewUploadID]. The algorithm is the client's guess at that of the
	// final digest: a right guess may spare reading the bytes again, a wrong one costs only that.
	Begin(ctx context.Context, id string, guess digest.Algorithm) error

	// PartURL is where to PUT part n (1 to [MaxParts]) of an upload, once or again: the last one to finish counts.
	// The answer to the PUT has an ETag header. The URL authorizes by itself until it expires.
	PartURL(ctx context.Context, id string, n int) (URL, error)

	// Complete makes the blob d of exactly the named parts, in that order, and returns its size in bytes. Nobody who
	// has a URL of a part can change what becomes the blob once it is verified. A blob that is there already is
	// replaced: its bytes may have been damaged. When it fails the blob is as it was before.
	//
	// Errors: [ErrDigestMismatch] when the parts do not hash to d, [ErrMissingPart] when a part is absent or not the
	// one that its ETag names, [ErrNoUpload] when there is no such upload. The upload is kept in any case, so that a
	// completion of which nobody heard can be repeated; Abort removes it.
	Complete(ctx context.Context, id string, d digest.Digest, parts []Part) (size int64, err error)

	// Abort removes the parts of an upload, completed or not. It is no error when there are none.
	Abort(ctx context.Context, id string) error

	// Stat is the size of a blob in bytes, or [ErrNotFound].
	Stat(ctx context.Context, d digest.Digest) (size int64, err error)

	// BlobURL is where to read a blob with the given method, GET or HEAD. The URL authorizes by itself until it
	// expires, serves ranges, and is not checked for the blob's existence.
	BlobURL(ctx context.Context, d digest.Digest, method string) (URL, error)

	// Delete removes a blob. It is no error when there is none.
	Delete(ctx context.Context, d digest.Digest) error

	// Blobs walks over all blobs in any order, until the first error.
	Blobs(ctx context.Context) iter.Seq2[Stored, error]

	// Uploads walks over the ids of the uploads that have parts in the storage, until the first error.
	Uploads(ctx context.Context) iter.Seq2[string, error]

	// Tidy removes what completions that were killed before the time left behind, where no upload id leads to it. It
	// returns how many such things there were.
	Tidy(ctx context.Context, before time.Time) (int, error)

	// Check fails when the storage cannot be reached or written.
	Check(ctx context.Context) error
}

// Handler is a driver that serves its own URLs. The hold routes the paths to it, outside of its own authorization.
type Handler interface {
	// Routes are patterns of [http.ServeMux] and their handlers.
	Routes() map[string]http.Handler
}

// Receiver is a driver that takes a whole blob from the hold itself, of no upload.
type Receiver interface {
	// Receive stores the bytes of a body where nobody sees them, and hashes them. Errors are those of the body, too.
	Receive(alg digest.Algorithm, body io.Reader) (Received, error)
}

// Received are the bytes of a blob that nobody sees yet.
type Received interface {
	Digest() digest.Digest
	Size() int64

	// Publish makes the blob of them, as Complete does.
	Publish() error

	// Discard removes what was not published.
	Discard()
}

// Sizer is a driver to which clients send parts past the hold.
type Sizer interface {
	// PartBytes is the size of the parts of an upload that are there now.
	PartBytes(ctx context.Context, id string) (int64, error)
}

// Traits says how clients should upload to a driver.
type Traits struct {
	PartSize  int64 // preferred bytes of a part
	Streaming bool  // one part may have any length, and be sent in chunked transfer encoding
}

// URL is a request that a driver authorized, without any further header than these.
type URL struct {
	URL     string
	Method  string
	Expires time.Time
}

// Part names one uploaded part.
type Part struct {
	Number int    // 1 to MaxParts
	ETag   string // as the PUT answered it, quoted or not; empty matches any
}

// Stored is a blob in the storage.
type Stored struct {
	Digest   digest.Digest
	Size     int64
	Modified time.Time
}

// MaxParts is the highest part number, as in S3.
const MaxParts = 10_000

// Errors of a driver that its caller tells apart.
var (
	ErrNotFound       = errors.New("blob not found")
	ErrDigestMismatch = errors.New("the uploaded bytes do not hash to the digest")
	ErrMissingPart    = errors.New("a part is missing or differs from the one named")
	ErrNoUpload       = errors.New("no such upload")
)
