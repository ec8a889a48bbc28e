package oci

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/spec"
)

// headBlob answers HEAD of a blob itself: clients ask for size and digest only.
func (r *Registry) headBlob(w http.ResponseWriter, q *request) error {
	d, ok := spec.ParseDigest(q.Ref)
	if !ok {
		return invalidDigest(q.Ref)
	}
	var size int64
	stat := func(ctx context.Context, h *holdclient.Hold) (err error) {
		size, err = r.Holds.Stat(ctx, h, q.Owner, q.reader(), d)
		return err
	}
	var err error
	if hold := r.pushing(q); hold != nil {
		err = stat(q.Context(), hold)
	} else {
		err = r.byDigest(q, func() error {
			_, err := r.findBlob(q, d, stat)
			return err
		})
	}
	if err != nil {
		return r.blobError(w, q, d, err)
	}
	h := blobHeaders(w, d)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Accept-Ranges", "bytes")
	w.WriteHeader(http.StatusOK)
	return nil
}

// pushing is the hold of a push in progress, by the token that came with a HEAD: the client asks what it need not upload,
// and the manifest that follows names blobs in one hold only. Blobs that the owner has in a former hold are not there.
// It is nil when nobody pushes, and when the owner's PDS, which chooses the hold, cannot say so: then nobody can push.
func (r *Registry) pushing(q *request) *holdclient.Hold {
	if q.reader() != q.Owner || !q.Grant.Allows("repository", q.Name.String(), string(push)) {
		return nil
	}
	hold, err := r.chosenHold(q)
	if err != nil {
		return nil
	}
	return hold
}

// getBlob answers GET of a blob with a redirect to the hold. Only for holds that clients cannot reach do the bytes pass
// through here.
func (r *Registry) getBlob(w http.ResponseWriter, q *request) error {
	d, ok := spec.ParseDigest(q.Ref)
	if !ok {
		return invalidDigest(q.Ref)
	}
	var hold *holdclient.Hold
	var at holdclient.Location
	err := r.byDigest(q, func() (err error) {
		hold, err = r.findBlob(q, d, func(ctx context.Context, h *holdclient.Hold) (err error) {
			at, err = r.Holds.Locate(ctx, h, q.Owner, q.reader(), d, http.MethodGet)
			return err
		})
		return err
	})
	if err != nil {
		return r.blobError(w, q, d, err)
	}
	h := blobHeaders(w, d)
	if hold.Download == names.Proxy {
		return r.streamBlob(w, q, hold, at, d)
	}
	h.Set("Location", at.URL)
	h.Set("Cache-Control", "private, no-store") // the URL is a secret, and expires
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}

func blobHeaders(w http.ResponseWriter, d digest.Digest) http.Header {
	h := w.Header()
	h.Set("Docker-Content-Digest", string(d))
	h.Set("ETag", `"`+string(d)+`"`)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	return h
}

// streamBlob passes the bytes of a blob on, hashing a whole one on the way: a client that gets wrong bytes must not get
// a complete answer.
func (r *Registry) streamBlob(w http.ResponseWriter, q *request, hold *holdclient.Hold, at holdclient.Location, d digest.Digest) error {
	resp, err := r.Holds.Open(q.Context(), hold, at, q.Header)
	if err != nil {
		return r.blobError(w, q, d, err)
	}
	defer resp.Body.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Accept-Ranges", "bytes")
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		h.Set("Content-Range", resp.Header.Get("Content-Range"))
		return fail(errcode.ErrorCodeRangeInvalid, "The blob does not have this range of bytes.", "Ask for a range within its length.")
	}
	if v := resp.Header.Get("Content-Range"); v != "" {
		h.Set("Content-Range", v)
	}
	if resp.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	if resp.StatusCode == http.StatusPartialContent {
		if _, err := copyBuffered(w, resp.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	sum := d.Algorithm().Hash()
	_, err = copyBuffered(w, &hashing{resp.Body, sum})
	if err != nil {
		panic(http.ErrAbortHandler) // the status is out: breaking the connection is the only way left to say it
	}
	if digest.NewDigest(d.Algorithm(), sum) != d {
		r.Log.ErrorContext(q.Context(), "a hold served wrong bytes", "hold", hold.DID, "digest", d)
		panic(http.ErrAbortHandler)
	}
	return nil
}

type hashing struct {
	r io.Reader
	h hash.Hash
}

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.h.Write(p[:n])
	return n, err
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

func copyBuffered(w io.Writer, r io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, r, *b)
}

// findTimeout bounds the search for a blob: records of strangers may name many holds that never answer.
const findTimeout = 30 * time.Second

// findBlob tries an operation at the holds that may have a blob of the owner, likely ones first, and gives the hold at
// which it went well. An answer other than "not there" is final only when no other hold has the blob.
func (r *Registry) findBlob(q *request, d digest.Digest, try func(context.Context, *holdclient.Hold) error) (*holdclient.Hold, error) {
	var worst error
	ctx, cancel := context.WithTimeout(q.Context(), findTimeout)
	defer cancel()
	at := func(did syntax.DID) *holdclient.Hold {
		hold, err := r.Holds.Resolve(ctx, did)
		if err == nil {
			if err = try(ctx, hold); err == nil {
				return hold
			}
		}
		if kind, ok := holdclient.KindOf(err); (!ok || kind != holdclient.NotFound) && worst == nil {
			worst = err
		}
		return nil
	}
	last := r.blobs.last(q.Owner, d) // mostly right, and costs no query
	if last != "" {
		if hold := at(last); hold != nil {
			return hold, nil
		}
	}
	tried := map[syntax.DID]bool{last: true}
	search := func() (*holdclient.Hold, error) {
		candidates, err := r.candidates(q, d)
		if err != nil {
			return nil, err
		}
		for _, named := range candidates {
			if ctx.Err() != nil {
				break
			}
			for _, did := range slices.Backward(r.Holds.Lineage(ctx, named)) { // the holds that took its place first
				if tried[did] || ctx.Err() != nil {
					continue
				}
				tried[did] = true
				if hold := at(did); hold != nil {
					r.blobs.remember(q.Owner, d, did)
					return hold, nil
				}
			}
		}
		return nil, index.ErrNotFound
	}
	hold, err := search()
	if err == nil {
		return hold, nil
	}
	// A client may begin with a blob: then nothing of the owner is known here, or not yet what was pushed elsewhere.
	if fresh := r.Records.Fresh(ctx, q.Owner, r.Records.TTL); fresh != nil {
		err = fresh
	} else if hold, err = search(); err == nil {
		return hold, nil
	}
	if worst != nil {
		return nil, worst
	}
	return nil, err
}

// candidates are the holds that may have a blob: those that manifests naming it name, and the one that the owner pushes
// to now.
func (r *Registry) candidates(q *request, d digest.Digest) ([]syntax.DID, error) {
	list, err := r.Records.Holds(q.Context(), q.Owner, d)
	if err != nil {
		return nil, err
	}
	// A PDS that is down must not keep a blob from being pulled whose hold is known.
	hold, err := r.Records.PushHold(q.Context(), q.Owner, r.DefaultHold())
	if err == nil {
		list = append(list, holdclient.CanonicalDID(hold))
	} else if len(list) == 0 && !errors.Is(err, index.ErrNoHold) {
		return nil, err
	}
	return list, nil
}

// blobError says why a blob is not served. Whoever is not logged in is asked to: the blob may be in a private hold.
func (r *Registry) blobError(w http.ResponseWriter, q *request, d digest.Digest, err error) error {
	kind, ok := holdclient.KindOf(err)
	switch {
	case errors.Is(err, index.ErrNotFound), ok && kind == holdclient.NotFound:
		return unknownBlob(map[string]string{"digest": string(d)})
	case ok && kind == holdclient.Refused && q.Method == http.MethodHead && q.reader() == q.Owner:
		// A push begins by asking what is there. A newcomer becomes crew by the upload that follows "not there"; whoever
		// may not learns why from its answer, which has a body.
		return unknownBlob(nil)
	case ok && (kind == holdclient.NeedsLogin || kind == holdclient.Refused) && q.reader() == "":
		// Without an error code containerd repeats the request a dozen times.
		r.challenge(w, q, pull, "insufficient_scope")
		return fail(errcode.ErrorCodeUnauthorized, "The blob is in a private hold, and you are not logged in.",
			"Log in with an account that its captain has added to the crew.").because(err)
	}
	return err
}

// statBlob is the size of one of the owner's blobs in a hold.
func (r *Registry) statBlob(ctx context.Context, hold *holdclient.Hold, owner, reader syntax.DID, d digest.Digest) (int64, error) {
	size, err := r.Holds.StatNow(ctx, hold, owner, reader, d)
	if err != nil {
		return 0, fmt.Errorf("check blob %s: %w", d, err)
	}
	return size, nil
}

// deleteBlob answers DELETE of a blob: the hold takes it from its owner, so it is gone from all of the owner's
// repositories. One that a manifest still names is kept.
func (r *Registry) deleteBlob(w http.ResponseWriter, q *request) error {
	d, ok := spec.ParseDigest(q.Ref)
	if !ok {
		return invalidDigest(q.Ref)
	}
	hold, err := r.findBlob(q, d, func(ctx context.Context, h *holdclient.Hold) error {
		_, err := r.Holds.StatNow(ctx, h, q.Owner, q.reader(), d)
		return err
	})
	if err != nil {
		return r.blobError(w, q, d, err)
	}
	used, err := r.Records.BlobInUse(q.Context(), q.Owner, d)
	if err != nil {
		return err
	}
	if used != "" {
		return &Error{Code: errcode.ErrorCodeDenied, Status: http.StatusConflict, Detail: map[string]string{"manifest": string(used)},
			Sentence: "The blob is part of the manifest " + string(used) + ".", Remedy: "Delete the manifests that name it first."}
	}
	if err := r.unlink(q.Context(), hold, q.Owner, d); err != nil {
		return r.blobError(w, q, d, err)
	}
	r.blobs.forget(q.Owner, d)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// How long, and how often, a deletion is tried of a blob that the hold thinks a manifest names: it may not have been told
// yet that the manifest was deleted a moment ago.
const (
	untoldFor   = 5 * time.Second
	untoldEvery = 100 * time.Millisecond
)

// unlink has the hold take a blob from its owner.
func (r *Registry) unlink(ctx context.Context, hold *holdclient.Hold, owner syntax.DID, d digest.Digest) error {
	again := time.NewTicker(untoldEvery)
	defer again.Stop()
	end := time.NewTimer(untoldFor)
	defer end.Stop()
	for {
		err := r.Holds.Delete(ctx, hold, owner, d)
		if kind, ok := holdclient.KindOf(err); err == nil || !ok || kind != holdclient.InUse {
			return err
		}
		select {
		case <-again.C:
		case <-end.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}
