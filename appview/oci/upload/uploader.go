package upload

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/holdclient"
)

// ErrDigest says that the bytes do not hash to the digest that the client named.
var ErrDigest = errors.New("the bytes do not hash to this digest")

// ErrAlgorithm says that the bytes were hashed by another algorithm than that of the digest that the client names at the end.
var ErrAlgorithm = errors.New("the upload was begun for another digest algorithm")

// ErrShortPart says that the hold takes no part after one that was below its smallest size.
var ErrShortPart = errors.New("an earlier chunk was smaller than the hold's smallest part")

// ErrManyParts says that the upload came in more parts than a hold keeps apart.
var ErrManyParts = errors.New("more parts than a hold takes")

// BodyError says that the client's body could not be read to its end.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "read request body: " + e.Err.Error() }
func (e *BodyError) Unwrap() error { return e.Err }

// Uploader moves blobs from requests to holds. Make it with [New].
type Uploader struct {
	Holds    *holdclient.Client
	Sessions *Sessions
	Log      *slog.Logger
	budget   *budget
}

// New makes an uploader with [MaxBuffered] bytes for parts.
func New(holds *holdclient.Client, sessions *Sessions, log *slog.Logger) *Uploader {
	return &Uploader{Holds: holds, Sessions: sessions, Log: log, budget: newBudget(MaxBuffered, budgetPause)}
}

const (
	partTries  = 3
	maxParts   = 10_000 // S3's limit, which foreign holds have
	retryPause = 200 * time.Millisecond
)

// Start opens an upload, at the hold too unless that takes whole blobs: then the upload may need nothing there before all of
// its bytes. d may be empty when the client has not named the digest yet.
func (u *Uploader) Start(ctx context.Context, hold *holdclient.Hold, did syntax.DID, repository string, alg digest.Algorithm, d digest.Digest) (*Session, error) {
	s := &Session{ID: newID(), DID: did, Repository: repository, Hold: hold.DID, Algorithm: alg}
	if err := u.makeRoom(ctx, did); err != nil {
		return nil, err
	}
	if err := u.Holds.EnsureCrew(ctx, hold, did); err != nil {
		return nil, err
	}
	if u.Holds.TakesWhole(hold.DID, did) {
		return s, u.Sessions.create(ctx, s)
	}
	return s, u.begin(ctx, hold, s, d)
}

// begin opens an upload at the hold that is not open there, and stores that.
func (u *Uploader) begin(ctx context.Context, hold *holdclient.Hold, s *Session, d digest.Digest) error {
	if d == "" {
		d = s.Algorithm.FromString(s.ID) // the protocol wants some digest now; the real one comes with completion
	}
	up, err := u.Holds.Initiate(ctx, hold, s.DID, d)
	if err != nil {
		return err
	}
	s.Upload = *up
	store := u.Sessions.advance
	if s.version == 0 {
		store = u.Sessions.create
	}
	if err := store(ctx, s); err != nil {
		u.abort(context.WithoutCancel(ctx), hold, s)
		s.Upload = holdclient.Upload{}
		return err
	}
	return nil
}

// Append passes body on to the hold. size is its length, or -1. On error the upload is as it was before.
func (u *Uploader) Append(ctx context.Context, s *Session, body io.Reader, size int64) error {
	return u.pass(ctx, s, body, size, false)
}

// AppendLast is Append for bytes that Finish follows at once: they are remembered in s only. When Finish then fails,
// the upload is as it was before these bytes, and a client that repeats its request sends them again. A whole blob is left
// to the hold to hash if the operator configured that hold and it verifies digests: it must in any case, and hashing is
// most of what a large push costs here. What goes to a hold that a user chose is hashed here: nobody else may.
func (u *Uploader) AppendLast(ctx context.Context, s *Session, body io.Reader, size int64) error {
	return u.pass(ctx, s, body, size, true)
}

// TakesWhole says whether [Uploader.PutWhole] takes the blob: of an upload that is not open at the hold, unless a blob that
// went there whole has just failed.
func (u *Uploader) TakesWhole(s *Session) bool {
	return s.Upload.ID == "" && u.Holds.TakesWhole(s.Hold, s.DID)
}

// PutWhole passes a blob on and makes it visible under d, as AppendLast and Finish do, in one request to the hold, which
// hashes it.
func (u *Uploader) PutWhole(ctx context.Context, s *Session, body io.Reader, size int64, d digest.Digest) error {
	hold, err := u.Holds.Resolve(ctx, s.Hold)
	if err != nil {
		return err
	}
	in := &bodyReader{r: body, hash: io.Discard}
	err = u.Holds.PutWhole(ctx, hold, s.DID, d, in, size)
	if err != nil && in.err != nil {
		return &BodyError{in.err}
	}
	return u.completed(ctx, hold, s, d, err)
}

// verifies says whether the hold is believed that it verifies the digest: the operator may have dropped it since it said so.
func (u *Uploader) verifies(s *Session) bool { return s.Upload.Verifies && u.Holds.Operated(s.Hold) }

func (u *Uploader) pass(ctx context.Context, s *Session, body io.Reader, size int64, last bool) error {
	if size == 0 || body == nil {
		return nil
	}
	hold, err := u.Holds.Resolve(ctx, s.Hold)
	if err != nil {
		return err
	}
	h, err := s.hasher()
	if err != nil {
		return err
	}
	if s.Upload.ID == "" {
		if err := u.begin(ctx, hold, s, ""); err != nil {
			return err
		}
	}
	next := *s
	next.Parts = s.Parts[:len(s.Parts):len(s.Parts)]
	claim := func() (int, error) { return u.Sessions.claim(ctx, s) }
	in := &bodyReader{r: body, hash: h}
	if next.trusted = last && s.Offset == 0 && u.verifies(s); next.trusted {
		in.hash = io.Discard
	}
	if s.Upload.Streaming {
		err = u.stream(ctx, hold, &next, claim, in, size)
	} else {
		err = u.inParts(ctx, hold, &next, claim, in, size)
	}
	if in.err != nil {
		return &BodyError{in.err}
	}
	if err != nil {
		return err
	}
	if size >= 0 && in.n != size {
		return &BodyError{io.ErrUnexpectedEOF}
	}
	if in.n == 0 {
		return nil
	}
	next.Offset += in.n
	next.claimed, next.version = s.claimed, s.version
	if next.state, err = h.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return fmt.Errorf("upload %s: hash state: %w", s.ID, err)
	}
	if !last { // the bytes are with the hold: remember so even when the client hangs up now
		if err := u.Sessions.advance(context.WithoutCancel(ctx), &next); err != nil {
			return err
		}
	}
	*s = next
	return nil
}

// stream sends the whole body as one part.
func (u *Uploader) stream(ctx context.Context, hold *holdclient.Hold, s *Session, claim func() (int, error), in *bodyReader, size int64) error {
	if size < 0 {
		if err := in.peek(); err != nil {
			return nil // empty, or broken: in knows
		}
	}
	number, err := claim()
	if err != nil {
		return err
	}
	part, err := u.Holds.PutPart(ctx, hold, s.DID, s.Upload.ID, number, in, size)
	if err != nil {
		return err
	}
	s.Parts = append(s.Parts, part)
	return nil
}

// inParts sends the body in parts of the hold's preferred size, each read whole first, so that a part can be retried.
func (u *Uploader) inParts(ctx context.Context, hold *holdclient.Hold, s *Session, claim func() (int, error), in *bodyReader, size int64) error {
	buf := &partBuffer{budget: u.budget}
	defer buf.release()
	for {
		if err := buf.fill(ctx, in, s.Upload.PartSize, s.Upload.MinPart); err != nil {
			return err
		}
		if len(buf.b) == 0 {
			return nil
		}
		if s.short {
			return ErrShortPart
		}
		number, err := claim()
		if err != nil {
			return err
		}
		part, err := u.putPart(ctx, hold, s, number, buf)
		if err != nil {
			return err
		}
		s.Parts = append(s.Parts, part)
		s.short = int64(len(buf.b)) < s.Upload.MinPart
	}
}

func (u *Uploader) putPart(ctx context.Context, hold *holdclient.Hold, s *Session, number int, buf *partBuffer) (holdclient.Part, error) {
	for try := 1; ; try++ {
		part, err := u.Holds.PutPart(ctx, hold, s.DID, s.Upload.ID, number, buf.reader(), int64(len(buf.b)))
		if kind, ok := holdclient.KindOf(err); err == nil || !ok || kind != holdclient.Unavailable || try == partTries {
			return part, err
		}
		select {
		case <-ctx.Done():
			return holdclient.Part{}, err
		case <-time.After(time.Duration(try) * retryPause):
		}
	}
}

// Finish makes the blob visible under d. A wrong digest ends the upload; a hold that cannot be reached does not.
func (u *Uploader) Finish(ctx context.Context, s *Session, d digest.Digest) error {
	hold, err := u.Holds.Resolve(ctx, s.Hold)
	if err != nil {
		return err
	}
	if s.Upload.ID == "" { // nothing came
		if err := u.begin(ctx, hold, s, d); err != nil {
			return err
		}
	}
	switch {
	case s.trusted: // the hold checks, as it does in any case
	case d.Algorithm() != s.Algorithm:
		if !u.verifies(s) {
			return ErrAlgorithm // nobody would check but a hold that a user chose
		}
	default:
		got, err := s.Digest()
		if err != nil {
			return err
		}
		if got != d {
			u.drop(ctx, hold, s)
			return ErrDigest
		}
	}
	return u.completed(ctx, hold, s, d, u.Holds.Complete(ctx, hold, s.DID, s.Upload.ID, d, s.Parts))
}

// completed ends an upload that the hold has completed, or never will.
func (u *Uploader) completed(ctx context.Context, hold *holdclient.Hold, s *Session, d digest.Digest, err error) error {
	switch kind, _ := holdclient.KindOf(err); {
	case err == nil:
	case kind == holdclient.InvalidDigest:
		u.drop(ctx, hold, s)
		return ErrDigest
	case kind == holdclient.InvalidUpload, kind == holdclient.QuotaExceeded:
		u.drop(ctx, hold, s)
		return err
	default:
		return err
	}
	return u.Sessions.end(context.WithoutCancel(ctx), s, d)
}

// Cancel gives the upload up.
func (u *Uploader) Cancel(ctx context.Context, s *Session) error {
	if hold, err := u.Holds.Resolve(ctx, s.Hold); err == nil {
		u.abort(ctx, hold, s)
	}
	return u.Sessions.delete(ctx, s.ID)
}

// drop ends an upload that can never succeed. Its failures are logged only: holds sweep what is idle.
func (u *Uploader) drop(ctx context.Context, hold *holdclient.Hold, s *Session) {
	ctx = context.WithoutCancel(ctx)
	u.abort(ctx, hold, s)
	if err := u.Sessions.delete(ctx, s.ID); err != nil {
		u.Log.Warn("failed upload was not forgotten", "upload", s.ID, "error", err)
	}
}

func (u *Uploader) abort(ctx context.Context, hold *holdclient.Hold, s *Session) {
	if s.Upload.ID == "" {
		return
	}
	if err := u.Holds.Abort(ctx, hold, s.DID, s.Upload.ID); err != nil {
		u.Log.Info("upload was not aborted at the hold, which will sweep it", "hold", s.Hold, "error", err)
	}
}

// bodyReader hashes and counts what is read, and remembers a failure of the client's body, which net/http would blame
// on the hold.
type bodyReader struct {
	r    io.Reader
	hash io.Writer
	n    int64
	err  error
	head []byte // peeked
}

// peek reads one byte ahead, to tell an empty body from another.
func (b *bodyReader) peek() error {
	var one [1]byte
	if _, err := io.ReadFull(b.r, one[:]); err != nil {
		if !errors.Is(err, io.EOF) {
			b.err = err
		}
		return err
	}
	b.head = one[:]
	return nil
}

func (b *bodyReader) Read(p []byte) (n int, err error) {
	if len(b.head) > 0 && len(p) > 0 {
		n, b.head = copy(p, b.head), nil
	} else {
		n, err = b.r.Read(p)
	}
	_, _ = b.hash.Write(p[:n]) // a hash never fails
	b.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
