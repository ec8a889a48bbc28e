package hold

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/slow"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/sqlitedb"
)

// methodPutBlob takes a blob whole, where its bytes pass through the hold in any case: one request, and nothing that is
// kept of an upload.
const methodPutBlob = "io.atcr.hold.putBlob"

// bodyIdle is how long the bytes of a whole blob may stand still.
const bodyIdle = time.Minute

// putBlob answers it. The digest is in the query, the body is the blob. It is repeated from the start.
func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) error {
	did, err := s.need(r, methodPutBlob, blobWrite)
	if err != nil {
		return err
	}
	d, err := storage.ParseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return wrongDigest(err)
	}
	if err := s.underQuota(r.Context(), did); err != nil {
		return err
	}
	body, end, ok := s.whole(slow.Reader(w, r.Body, bodyIdle), did)
	if !ok {
		return s.tooManyUploads(w, did)
	}
	defer end()
	s.metrics.uploads.WithLabelValues("started").Inc()
	got, err := s.driver.(storage.Receiver).Receive(d.Algorithm(), body)
	switch {
	case err == nil:
	case errors.As(err, new(*xrpc.Error)): // it ends a body that is too long
		return s.lost("refused", err)
	case errors.As(err, new(*fs.PathError)), sqlitedb.DiskFull(err):
		return s.lost("failed", err)
	default:
		return s.lost("aborted", xrpc.Errorf(http.StatusBadRequest, "UploadFailed", "The blob did not arrive whole; send it again.").Because(err))
	}
	defer got.Discard()
	if got.Digest() != d {
		return s.lost("mismatched", errMismatch(d))
	}
	if err := s.keep(r.Context(), ledger.Upload{DID: did, Digest: d, Size: got.Size()}, got); err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, completion(d, got.Size()))
	return nil
}

// lost counts what became of a blob that is not kept, and gives err back.
func (s *Server) lost(outcome string, err error) error {
	s.metrics.uploads.WithLabelValues(outcome).Inc()
	return err
}

// keep makes a blob of what was received, and links it to who sent it, whether or not that one is still there.
func (s *Server) keep(ctx context.Context, u ledger.Upload, got storage.Received) error {
	ctx = context.WithoutCancel(ctx)
	end, err := s.placing(ctx, u.Digest)
	if err != nil {
		return s.lost("failed", err)
	}
	defer end()
	start := s.now()
	if err := got.Publish(); err != nil {
		return s.lost("failed", xrpc.Errorf(http.StatusServiceUnavailable, "CompletionFailed", "The storage failed to keep the blob; send it again.").Because(err))
	}
	switch err := s.link(ctx, u); {
	case errors.As(err, new(*xrpc.Error)): // no space: it has been counted
		return err
	case err != nil:
		return s.lost("failed", err)
	}
	s.tellCompleted(u.Size, start)
	return nil
}

func errMismatch(d digest.Digest) error {
	return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest",
		"The uploaded bytes do not hash to %s, so they were discarded; upload the blob again.", d)
}

// completion is the answer that a blob is there.
func completion(d digest.Digest, size int64) map[string]any {
	return map[string]any{"status": "completed", "digest": d, "size": size}
}
