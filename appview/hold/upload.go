package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
)

var (
	errUploadID = xrpc.Errorf(http.StatusBadRequest, "InvalidUploadId",
		"There is no such upload of yours: it is completed, aborted or expired; start a new one.")
	errPartNumber = xrpc.Errorf(http.StatusBadRequest, "InvalidPartNumber",
		"Part numbers are 1 to %d, each once and in ascending order; number the parts anew.", storage.MaxParts)
)

func wrongDigest(err error) error {
	return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "The digest must be sha256: or sha512: and its lower-case hex; compute it anew.").Because(err)
}

// initiateUpload answers io.atcr.hold.initiateUpload. The digest is the client's guess or any temporary name; only
// its algorithm is used. Beyond the lexicon the answer names the preferred part size, whether one part may have any
// length and be sent in chunks, that the digest will be verified here, whether the next blobs may come whole by putBlob,
// and the URL of the first part.
func (s *Server) initiateUpload(w http.ResponseWriter, r *http.Request) error {
	did, err := s.need(r, "io.atcr.hold.initiateUpload", blobWrite)
	if err != nil {
		return err
	}
	var in struct {
		Digest string `json:"digest"`
	}
	if err := xrpc.ReadJSON(w, r, &in); err != nil {
		return err
	}
	guess := digest.SHA256
	if alg, _, ok := strings.Cut(in.Digest, ":"); ok && strings.HasPrefix(alg, "sha") {
		guess = digest.Algorithm(alg)
	}
	if len(in.Digest) > 256 || !slices.Contains(storage.Algorithms, guess) {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "The digest must be of sha256 or sha512; use one of those.")
	}
	if err := s.underQuota(r.Context(), did); err != nil {
		return err
	}
	id := storage.NewUploadID()
	// The row first: whatever the storage has is known to the sweeper then.
	err = s.ledger.BeginUpload(r.Context(), id, did, s.cfg.MaxUploads, s.now())
	if errors.Is(err, ledger.ErrTooMany) {
		var made bool
		if made, err = s.makeRoom(r.Context(), did); err != nil {
			return err
		}
		err = ledger.ErrTooMany
		if made {
			err = s.ledger.BeginUpload(r.Context(), id, did, s.cfg.MaxUploads, s.now())
		}
	}
	if errors.Is(err, ledger.ErrTooMany) {
		return s.tooManyUploads(w, did)
	}
	if err != nil {
		return err
	}
	if err := s.driver.Begin(r.Context(), id, guess); err != nil {
		return err
	}
	s.metrics.uploads.WithLabelValues("started").Inc()
	traits := s.driver.Traits()
	_, whole := s.driver.(storage.Receiver)
	out := map[string]any{"uploadId": id, "partSize": traits.PartSize, "streaming": traits.Streaming, "verifies": true, "wholeBlobs": whole}
	if u, err := s.driver.PartURL(r.Context(), id, 1); err == nil { // else whoever asks for it learns why
		out["firstPart"] = map[string]string{"url": u.URL, "method": u.Method}
	}
	xrpc.WriteJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) tooManyUploads(w http.ResponseWriter, did syntax.DID) error {
	w.Header().Set("Retry-After", "60")
	return xrpc.Errorf(http.StatusTooManyRequests, "TooManyUploads",
		"%s has %d uploads in progress, the most of this hold; complete or abort one, or wait: one that stands still for %s makes room.", did, s.cfg.MaxUploads, roomAfter)
}

// roomAfter is how long an upload must have stood still to make room for another of its user: URLs of parts that were
// handed out at its last progress are no longer good then. A registry that died right after it began an upload leaves one that nobody can abort.
const roomAfter = time.Hour

// makeRoom ends the upload of a user that has stood still the longest, if that is long enough.
func (s *Server) makeRoom(ctx context.Context, did syntax.DID) (bool, error) {
	id, err := s.ledger.OldestUpload(ctx, did, s.now().Add(-roomAfter))
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	unlock, ok := s.uploadLocks.tryLock(id)
	if !ok {
		return false, nil // it completes right now
	}
	defer unlock()
	if err := s.abandon(ctx, id); err != nil {
		return false, err
	}
	s.metrics.uploads.WithLabelValues("expired").Inc()
	s.log.InfoContext(ctx, "an upload without progress made room for another", "did", did)
	return true, nil
}

// getPartUploadUrl answers io.atcr.hold.getPartUploadUrl.
func (s *Server) getPartUploadURL(w http.ResponseWriter, r *http.Request) error {
	did, err := s.need(r, "io.atcr.hold.getPartUploadUrl", blobWrite)
	if err != nil {
		return err
	}
	var in struct {
		UploadID   string `json:"uploadId"`
		PartNumber int    `json:"partNumber"`
	}
	if err := xrpc.ReadJSON(w, r, &in); err != nil {
		return err
	}
	if u, err := s.upload(r.Context(), in.UploadID, did); err != nil {
		return err
	} else if u.Digest != "" {
		return errUploadID
	}
	if in.PartNumber < 1 || in.PartNumber > storage.MaxParts {
		return errPartNumber
	}
	if _, here := s.driver.(storage.Handler); !here { // else the bytes tell of progress, see touching
		if err := s.ledger.TouchUpload(r.Context(), in.UploadID, s.now()); err != nil {
			return err
		}
		if err := s.roomForParts(r.Context(), did); err != nil {
			return err
		}
	}
	u, err := s.driver.PartURL(r.Context(), in.UploadID, in.PartNumber)
	if err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"url": u.URL, "method": u.Method})
	return nil
}

type namedPart struct {
	PartNumber int    `json:"partNumber"`
	ETag       string `json:"etag"`
}

// completeUpload answers io.atcr.hold.completeUpload. Repeated after a success it answers the same again.
func (s *Server) completeUpload(w http.ResponseWriter, r *http.Request) error {
	did, err := s.need(r, "io.atcr.hold.completeUpload", blobWrite)
	if err != nil {
		return err
	}
	var in struct {
		UploadID string      `json:"uploadId"`
		Digest   string      `json:"digest"`
		Parts    []namedPart `json:"parts"`
	}
	if err := xrpc.ReadJSON(w, r, &in); err != nil {
		return err
	}
	d, err := storage.ParseDigest(in.Digest)
	if err != nil {
		return wrongDigest(err)
	}
	parts, err := partsOf(in.Parts)
	if err != nil {
		return err
	}
	if !storage.ValidUploadID(in.UploadID) {
		return errUploadID
	}
	unlock := s.uploadLocks.lock(in.UploadID) // another request may complete or abort it
	defer unlock()
	u, err := s.upload(r.Context(), in.UploadID, did)
	if err != nil {
		return err
	}
	switch u.Digest {
	case "":
		if u.Size, err = s.complete(r.Context(), u, d, parts); err != nil {
			return err
		}
	case d:
	default:
		return errUploadID
	}
	xrpc.WriteJSON(w, http.StatusOK, completion(d, u.Size))
	return nil
}

func partsOf(named []namedPart) ([]storage.Part, error) {
	parts := make([]storage.Part, len(named))
	for i, p := range named {
		if p.PartNumber < 1 || p.PartNumber > storage.MaxParts || (i > 0 && p.PartNumber <= named[i-1].PartNumber) {
			return nil, errPartNumber
		}
		parts[i] = storage.Part{Number: p.PartNumber, ETag: p.ETag}
	}
	return parts, nil
}

// completeTime is how long a completion may take: registries wait no longer.
const completeTime = 30 * time.Minute

// complete makes the blob, then links it to its owner, and only then gives the parts up: after a crash at any moment it
// can be repeated. The caller holds the upload's lock; the blob's is held against a deletion of the same digest.
func (s *Server) complete(ctx context.Context, u ledger.Upload, d digest.Digest, parts []storage.Part) (int64, error) {
	unlock, err := s.placing(ctx, d)
	if err != nil {
		return 0, s.lost("failed", err)
	}
	defer unlock()
	if err := s.ledger.TouchUpload(ctx, u.ID, s.now()); err != nil {
		return 0, err
	}
	start := s.now()
	// A client that leaves ends nothing, and still gets its blob: what the storage was asked for it may do afterwards, when
	// nobody waits for it.
	ctx = context.WithoutCancel(ctx)
	within, cancel := context.WithTimeout(ctx, s.completeTime)
	size, err := s.driver.Complete(within, u.ID, d, parts)
	cancel()
	if err != nil {
		return 0, s.incomplete(ctx, u.ID, d, err)
	}
	u.Digest, u.Size = d, size
	if err := s.link(ctx, u); err != nil {
		return 0, err
	}
	if err := s.driver.Abort(ctx, u.ID); err != nil {
		s.log.WarnContext(ctx, "the parts of a completed upload stay until the next sweep", "error", err)
	} else {
		s.arriving.forget(u.ID)
	}
	s.tellCompleted(size, start)
	return size, nil
}

// placing keeps a blob from being removed while it is made and linked. The end of that collects it, since whoever wanted to
// meanwhile has left it to that. Bytes that lie there already, of which the ledger knows nothing, are not this request's to
// remove, however it ends: they may be all that is left of a blob whose user the ledger has forgotten.
func (s *Server) placing(ctx context.Context, d digest.Digest) (end func(), err error) {
	collect := func() { s.collect(context.WithoutCancel(ctx), d) }
	unlock, ok := s.blobLocks.rlockWithin(d.String(), s.removeTime)
	if !ok {
		collect()
		return nil, xrpc.Errorf(http.StatusServiceUnavailable, "CompletionFailed",
			"The storage is about to remove an earlier copy of the blob and does not come to an end; try again in a minute.")
	}
	_, err = s.driver.Stat(ctx, d)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		err = s.ledger.Completing(ctx, d)
	case err != nil:
		err = xrpc.Errorf(http.StatusServiceUnavailable, "CompletionFailed",
			"The storage does not say whether it has the blob already; try again in a minute.").Because(err)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return func() { unlock(); collect() }, nil
}

func (s *Server) tellCompleted(size int64, start time.Time) {
	s.metrics.uploads.WithLabelValues("completed").Inc()
	s.metrics.uploadedBytes.Add(float64(size))
	s.metrics.completion.Observe(s.now().Sub(start).Seconds())
}

// incomplete is the answer to a completion that failed. An upload that can never be completed is given up.
func (s *Server) incomplete(ctx context.Context, id string, d digest.Digest, err error) error {
	abandon := func() {
		if err := s.abandon(ctx, id); err != nil {
			s.log.ErrorContext(ctx, "removing an upload that cannot be completed", "error", err)
		}
	}
	switch {
	case errors.Is(err, storage.ErrDigestMismatch):
		s.metrics.uploads.WithLabelValues("mismatched").Inc()
		abandon()
		return errMismatch(d)
	case errors.Is(err, storage.ErrMissingPart):
		return xrpc.Errorf(http.StatusBadRequest, "MissingParts",
			"A part is missing or is not the one that its ETag names; upload it again.").Because(err)
	case errors.Is(err, storage.ErrNoUpload):
		abandon()
		return errUploadID
	}
	s.unclear.Add(d, s.now())
	s.metrics.uploads.WithLabelValues("failed").Inc()
	return xrpc.Errorf(http.StatusServiceUnavailable, "CompletionFailed",
		"The storage failed to complete the upload; its parts are kept, so complete it again.").Because(err)
}

// abortUpload answers io.atcr.hold.abortUpload.
func (s *Server) abortUpload(w http.ResponseWriter, r *http.Request) error {
	did, err := s.need(r, "io.atcr.hold.abortUpload", blobWrite)
	if err != nil {
		return err
	}
	var in struct {
		UploadID string `json:"uploadId"`
	}
	if err := xrpc.ReadJSON(w, r, &in); err != nil {
		return err
	}
	if _, err := s.upload(r.Context(), in.UploadID, did); err != nil {
		return err
	}
	unlock := s.uploadLocks.lock(in.UploadID)
	defer unlock()
	u, err := s.upload(r.Context(), in.UploadID, did)
	if err != nil {
		return err
	}
	if u.Digest != "" {
		return errUploadID
	}
	if err := s.abandon(r.Context(), in.UploadID); err != nil {
		return xrpc.Errorf(http.StatusServiceUnavailable, "AbortFailed",
			"The storage failed to remove the upload; abort it again, or leave it to expire by itself.").Because(err)
	}
	s.metrics.uploads.WithLabelValues("aborted").Inc()
	xrpc.WriteJSON(w, http.StatusOK, map[string]string{"status": "aborted"})
	return nil
}

// abandon removes an upload's parts and then its row: the sweeper finds what is left of a crash in between.
func (s *Server) abandon(ctx context.Context, id string) error {
	if err := s.driver.Abort(ctx, id); err != nil {
		return err
	}
	defer s.arriving.forget(id)
	return s.ledger.ForgetUpload(ctx, id)
}

// upload looks up an upload of the caller's. Others' look as if there were none.
func (s *Server) upload(ctx context.Context, id string, did syntax.DID) (ledger.Upload, error) {
	if !storage.ValidUploadID(id) {
		return ledger.Upload{}, errUploadID
	}
	u, err := s.ledger.Upload(ctx, id, did)
	if errors.Is(err, ledger.ErrNotFound) {
		return ledger.Upload{}, errUploadID
	}
	if err != nil {
		return ledger.Upload{}, fmt.Errorf("upload: %w", err)
	}
	return u, nil
}
