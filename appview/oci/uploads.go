package oci

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/oci/upload"
)

// startUpload answers POST /v2/<name>/blobs/uploads/: a new upload (202), the whole blob at once with ?digest= (201),
// or a mount of a blob of the same owner with ?mount= (201).
func (r *Registry) startUpload(w http.ResponseWriter, q *request) error {
	algorithm := q.param("digest-algorithm")
	alg, ok := spec.ParseAlgorithm(algorithm)
	if !ok {
		return fail(errcode.ErrorCodeDigestInvalid, "The digest algorithm "+quote(algorithm)+" is not supported.", "Use sha256 or sha512.")
	}
	if raw := q.param("mount"); raw != "" {
		d, ok := spec.ParseDigest(raw)
		if !ok {
			return invalidDigest(raw)
		}
		if mounted, err := r.mount(q, d, q.param("from")); err != nil {
			return err
		} else if mounted {
			return r.blobCreated(w, q, d)
		}
		alg = d.Algorithm()
	}
	var d digest.Digest
	if raw := q.param("digest"); raw != "" {
		if d, ok = spec.ParseDigest(raw); !ok {
			return invalidDigest(raw)
		}
		alg = d.Algorithm()
	}
	hold, err := r.pushHold(q)
	if err != nil {
		return err
	}
	s, err := r.Uploads.Start(q.Context(), hold, q.Owner, q.Name.Repository, alg, d)
	if err != nil {
		return err
	}
	if d == "" {
		r.uploadHeaders(w, q, s)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if err := r.finish(q, s, r.moving(w, q.Request), d); err != nil {
		r.discard(q, s, err)
		return err
	}
	return r.blobCreated(w, q, d)
}

// mount says whether a blob can be had without uploading it: blobs belong to the owner, so one of another repository of
// the same owner is here already. Somebody else's is not: the client uploads it, and the hold stores it once.
func (r *Registry) mount(q *request, d digest.Digest, from string) (bool, error) {
	if from != "" {
		source, ok := spec.ParseName(from)
		if !ok {
			return false, invalidName(from)
		}
		owner, err := r.Owners.Owner(q.Context(), source.Owner)
		if err != nil || owner != q.Owner {
			return false, nil // an unknown source is no failure: the client uploads
		}
	}
	hold, err := r.pushHold(q)
	if err != nil {
		return false, err
	}
	_, err = r.statBlob(q.Context(), hold, q.Owner, q.reader(), d)
	switch kind, ok := holdclient.KindOf(err); {
	case ok && (kind == holdclient.NotFound || kind == holdclient.Refused || kind == holdclient.NeedsLogin):
		return false, nil // a newcomer becomes crew by the upload that follows; whoever may not is told by it
	}
	return err == nil, err
}

// pushHold finds the hold that the owner's pushes go to.
func (r *Registry) pushHold(q *request) (*holdclient.Hold, error) {
	if err := r.Records.EnsureProfile(q.Context(), q.Owner, r.DefaultHold()); err != nil {
		return nil, err
	}
	return r.chosenHold(q)
}

// chosenHold is the hold that the owner has chosen, or whichever took its place.
func (r *Registry) chosenHold(q *request) (*holdclient.Hold, error) {
	did, err := r.Records.PushHold(q.Context(), q.Owner, r.DefaultHold())
	if err != nil {
		return nil, err
	}
	line := r.Holds.Lineage(q.Context(), holdclient.CanonicalDID(did))
	return r.Holds.Resolve(q.Context(), line[len(line)-1])
}

// uploadStatus answers GET of an upload: how far it is.
func (r *Registry) uploadStatus(w http.ResponseWriter, q *request) error {
	s, err := r.session(q)
	if err != nil {
		return err
	}
	r.uploadHeaders(w, q, s)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// appendUpload answers PATCH: a chunk with Content-Range, or a stream of any length without.
func (r *Registry) appendUpload(w http.ResponseWriter, q *request) error {
	s, err := r.session(q)
	if err != nil {
		return err
	}
	if err := r.checkRange(w, q, s); err != nil {
		return err
	}
	if err := r.Uploads.Append(q.Context(), s, r.chunk(w, q.Request), q.ContentLength); err != nil {
		return r.appendError(w, q, s, err)
	}
	r.uploadHeaders(w, q, s)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// finishUpload answers PUT ?digest=, with the last bytes or without.
func (r *Registry) finishUpload(w http.ResponseWriter, q *request) error {
	raw := q.param("digest")
	d, ok := spec.ParseDigest(raw)
	if !ok {
		return invalidDigest(raw)
	}
	s, err := r.session(q)
	if err != nil {
		var unknown *Error
		if !errors.As(err, &unknown) {
			return err
		}
		switch became, err := r.became(q, d); {
		case err != nil:
			return err
		case became: // the answer to the first PUT was lost on its way
			return r.blobCreated(w, q, d)
		}
		return err
	}
	if err := r.checkRange(w, q, s); err != nil {
		return err
	}
	if s.Offset == 0 { // nothing is hashed yet: hash what the client has named
		s.Algorithm = d.Algorithm()
	}
	if err := r.finish(q, s, r.chunk(w, q.Request), d); err != nil {
		return r.appendError(w, q, s, err)
	}
	return r.blobCreated(w, q, d)
}

// became says whether the upload, which is over, has become the blob d, at whatever replica, and the blob is still there.
func (r *Registry) became(q *request, d digest.Digest) (bool, error) {
	did, err := r.Uploads.Sessions.Ended(q.Context(), q.Owner, q.Name.Repository, q.Ref, d)
	if errors.Is(err, upload.ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	hold, err := r.Holds.Resolve(q.Context(), did)
	if err == nil {
		_, err = r.statBlob(q.Context(), hold, q.Owner, q.reader(), d)
	}
	if kind, ok := holdclient.KindOf(err); ok && kind == holdclient.NotFound {
		return false, nil
	}
	return err == nil, err
}

// finish appends the last bytes and makes the blob visible.
func (r *Registry) finish(q *request, s *upload.Session, last io.Reader, d digest.Digest) error {
	var err error
	if r.Uploads.TakesWhole(s) {
		err = r.Uploads.PutWhole(q.Context(), s, last, q.ContentLength, d)
	} else if err = r.Uploads.AppendLast(q.Context(), s, last, q.ContentLength); err == nil {
		err = r.Uploads.Finish(q.Context(), s, d)
	}
	if errors.Is(err, upload.ErrDigest) {
		return wrongDigest(map[string]string{"digest": string(d)}).because(err)
	}
	if err == nil {
		r.blobs.remember(q.Owner, d, s.Hold)
	}
	return err
}

// cancelUpload answers DELETE of an upload.
func (r *Registry) cancelUpload(w http.ResponseWriter, q *request) error {
	s, err := r.session(q)
	if err != nil {
		return err
	}
	if err := r.Uploads.Cancel(q.Context(), s); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// discard ends an upload that no client will ever hear of again.
func (r *Registry) discard(q *request, s *upload.Session, cause error) {
	var e *Error
	if errors.As(cause, &e) && e.Code == errcode.ErrorCodeDigestInvalid {
		return // ended already
	}
	if err := r.Uploads.Cancel(context.WithoutCancel(q.Context()), s); err != nil {
		r.Log.Info("a failed upload was not cancelled and will expire", "error", err)
	}
}

func (r *Registry) session(q *request) (*upload.Session, error) {
	s, err := r.Uploads.Sessions.Get(q.Context(), q.Owner, q.Name.Repository, q.Ref)
	if errors.Is(err, upload.ErrUnknown) {
		return nil, unknownUpload()
	}
	return s, err
}

// checkRange insists that a chunk starts where the upload stands and is as long as it says.
func (r *Registry) checkRange(w http.ResponseWriter, q *request, s *upload.Session) error {
	header := q.Header.Get("Content-Range")
	if header == "" {
		return nil
	}
	rng, ok := spec.ParseContentRange(header)
	if !ok {
		return &Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusBadRequest,
			Sentence: "The Content-Range " + quote(header) + " is not a range.", Remedy: "Write <first byte>-<last byte>, for example 0-1023."}
	}
	if q.ContentLength >= 0 && rng.Len() != q.ContentLength {
		return &Error{Code: errcode.ErrorCodeSizeInvalid, Sentence: "Content-Range and Content-Length do not agree.",
			Remedy: "Send exactly the bytes that Content-Range names."}
	}
	if rng.First != s.Offset {
		return r.outOfOrder(w, q, s)
	}
	return nil
}

// appendError tells a client that lost a race how far the upload is.
func (r *Registry) appendError(w http.ResponseWriter, q *request, s *upload.Session, err error) error {
	if errors.Is(err, upload.ErrConflict) {
		if now, err := r.session(q); err == nil {
			s = now
		}
		return r.outOfOrder(w, q, s)
	}
	return err
}

func (r *Registry) outOfOrder(w http.ResponseWriter, q *request, s *upload.Session) error {
	r.uploadHeaders(w, q, s)
	return fail(errcode.ErrorCodeRangeInvalid, "The chunk does not start where the upload stands, at byte "+strconv.FormatInt(s.Offset, 10)+".",
		"Continue from there, or start again.").with(map[string]int64{"offset": s.Offset})
}

// uploadHeaders says where the upload goes on and how far it is. The Location is a bare path: it survives every proxy,
// and clients that drop queries.
func (r *Registry) uploadHeaders(w http.ResponseWriter, q *request, s *upload.Session) {
	h := w.Header()
	h.Set("Location", "/v2/"+q.Name.String()+"/blobs/uploads/"+s.ID)
	h.Set("Docker-Upload-UUID", s.ID)
	h.Set("Range", "0-"+strconv.FormatInt(max(s.Offset-1, 0), 10))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", "0")
	if s.Upload.MinPart > 0 {
		h.Set("OCI-Chunk-Min-Length", strconv.FormatInt(s.Upload.MinPart, 10))
	}
}

func (r *Registry) blobCreated(w http.ResponseWriter, q *request, d digest.Digest) error {
	h := w.Header()
	h.Set("Location", "/v2/"+q.Name.String()+"/blobs/"+string(d))
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}
