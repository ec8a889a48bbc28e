package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/slow"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
)

const methodGetBlob = "com.atproto.sync.getBlob"

// getBlob answers com.atproto.sync.getBlob: for an OCI digest in cid here, for a CID by the embedded PDS.
//
// did is the DID that pushed the blob. With method=GET|HEAD, or when JSON is accepted, the answer is {url, size,
// digest}; else a redirect to that URL. A plain HEAD tells the size itself.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if !strings.Contains(q.Get("cid"), ":") {
		s.repo.ServeHTTP(slow.Writer(w, requestTime), r)
		return nil
	}
	d, err := storage.ParseDigest(q.Get("cid"))
	if err != nil {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidRequest", "cid must be a CID, or an OCI digest of sha256 or sha512; correct it.").Because(err)
	}
	did, err := syntax.ParseDID(q.Get("did"))
	if err != nil {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidRequest", "did must be the DID of the blob's owner; add it.")
	}
	method := strings.ToUpper(q.Get("method"))
	if method != "" && method != http.MethodGet && method != http.MethodHead {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidRequest", "method must be GET or HEAD; leave it out for a redirect.")
	}
	if err := s.mayRead(r, methodGetBlob); err != nil {
		return err
	}
	size, err := s.visible(r.Context(), canonical(did), d)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Cache-Control", "no-store") // the URL expires
	asJSON := method != "" || strings.Contains(r.Header.Get("Accept"), "application/json")
	if r.Method == http.MethodHead && !asJSON {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
		h.Set("Content-Type", "application/octet-stream")
		return nil
	}
	if method == "" {
		method = r.Method
	}
	u, err := s.driver.BlobURL(r.Context(), d, method)
	if err != nil {
		return err
	}
	s.metrics.downloads.Inc()
	if asJSON {
		xrpc.WriteJSON(w, http.StatusOK, map[string]any{"url": u.URL, "size": size, "digest": d})
		return nil
	}
	http.Redirect(w, r, u.URL, http.StatusTemporaryRedirect)
	return nil
}

// visible is the size of a blob that was linked to the DID and is in the storage: a HEAD must not promise what a GET
// cannot serve. One of another size is damaged: clients push it again when it is missing, and that mends it.
func (s *Server) visible(ctx context.Context, did syntax.DID, d digest.Digest) (int64, error) {
	missing := xrpc.Errorf(http.StatusNotFound, "BlobNotFound", "%s has no blob %s in this hold; push it again.", did, d)
	linked, err := s.ledger.Linked(ctx, did, d)
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, missing
	}
	if err != nil {
		return 0, err
	}
	size, err := s.driver.Stat(ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		s.log.ErrorContext(ctx, "a linked blob is not in the storage", "did", did, "digest", d)
		return 0, missing
	}
	if err != nil {
		return 0, xrpc.Errorf(http.StatusServiceUnavailable, "StorageUnavailable", "The hold's storage cannot be reached; try again.").Because(err)
	}
	if size != linked {
		s.log.ErrorContext(ctx, "a linked blob has another size in the storage", "did", did, "digest", d, "size", size, "linked", linked)
		return 0, missing
	}
	return size, nil
}

// deleteBlob answers io.atcr.hold.deleteBlob, an extension: it takes the blob from the caller. The bytes go when
// nobody else has it. What is named by a manifest that is being pushed, or was of late, stays: who asks may not know
// of the push yet. Error: BlobInUse {manifest}, status 409.
func (s *Server) deleteBlob(w http.ResponseWriter, r *http.Request) error {
	did, err := s.need(r, "io.atcr.hold.deleteBlob", blobWrite)
	if err != nil {
		return err
	}
	var in struct {
		Digest string `json:"digest"`
	}
	if err := xrpc.ReadJSON(w, r, &in); err != nil {
		return err
	}
	d, err := storage.ParseDigest(in.Digest)
	if err != nil {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "The digest must be of sha256 or sha512; correct it.").Because(err)
	}
	err = s.ledger.Unlink(r.Context(), did, d, s.now().Add(-reservationCounts))
	var used *ledger.BlobInUse
	if errors.As(err, &used) {
		return xrpc.Errorf(http.StatusConflict, "BlobInUse", "The manifest %s, which was just pushed or is being pushed, names the blob; delete the manifest first.",
			used.Manifest).With("manifest", used.Manifest)
	} else if err != nil {
		return err
	}
	s.collect(context.WithoutCancel(r.Context()), d)
	xrpc.WriteJSON(w, http.StatusOK, map[string]bool{"success": true})
	return nil
}

const (
	// removeTime is how long the removal of a blob is waited for, also by whoever pushes the same one.
	removeTime = 30 * time.Second
	// removeLimit is when it is given up. Until then it keeps the blob's lock: a storage that hangs may still carry it out.
	removeLimit = 15 * time.Minute
	// unclearTime is how long a storage that failed to complete a blob may still do it.
	unclearTime = 15 * time.Minute
)

// collect removes a blob if nobody has it any more. What fails the sweep does again.
func (s *Server) collect(ctx context.Context, d digest.Digest) {
	if err := s.collected(ctx, d); err != nil {
		s.log.ErrorContext(ctx, "removing a blob that nobody has", "digest", d, "error", err)
	}
}

// collected is collect. An upload that completes the blob now collects at its end. One whose completion failed of late the
// storage may still make: it is left to a sweep after that. While users wait to be read since the
// ledger was restored, nobody knows who has a blob.
func (s *Server) collected(ctx context.Context, d digest.Digest) error {
	if failed, ok := s.unclear.Get(d); ok && s.now().Sub(failed) < unclearTime {
		return nil
	}
	unlock, ok := s.blobLocks.tryLock(d.String())
	if !ok {
		return nil
	}
	unowned, err := s.ledger.Unowned(ctx, d)
	if err == nil && unowned {
		var wait bool
		wait, err = s.ledger.Incomplete(ctx, s.now().Add(-s.cfg.GCGrace))
		unowned = !wait
	}
	if err != nil || !unowned {
		unlock()
		return err
	}
	return s.remove(ctx, d, unlock)
}

// remove takes a blob from the storage, and releases its lock when the storage has answered. It waits for that no longer
// than removeTime.
func (s *Server) remove(ctx context.Context, d digest.Digest, unlock func()) error {
	driver, answer := s.driver, make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
		defer cancel()
		err := driver.Delete(ctx, d)
		if err == nil {
			err = s.ledger.Removed(ctx, d)
		}
		unlock()
		answer <- err
	}()
	wait, cancel := context.WithTimeout(ctx, s.removeTime)
	defer cancel()
	select {
	case err := <-answer:
		if err != nil {
			return fmt.Errorf("remove blob: %w", err)
		}
		return nil
	case <-wait.Done():
		return fmt.Errorf("remove blob: the storage has not answered yet: %w", wait.Err())
	}
}
