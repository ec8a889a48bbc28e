package oci

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"atcr.io/operator/appview/oci/spec"
)

// moving is the body of a request with a deadline that moves with its progress: a slow client may take hours, one that
// stands still is cut off after BodyIdle. There is no other read timeout on bodies.
func (r *Registry) moving(w http.ResponseWriter, req *http.Request) io.ReadCloser {
	if req.Body == nil || req.Body == http.NoBody {
		return http.NoBody
	}
	return &movingBody{ReadCloser: req.Body, control: http.NewResponseController(w), idle: r.BodyIdle}
}

type movingBody struct {
	io.ReadCloser
	control *http.ResponseController
	idle    time.Duration
	next    time.Time // when the deadline is moved again; moving it for each read would cost a timer each
	ended   bool      // net/http now waits for the connection to break: a deadline would look like that
}

func (b *movingBody) Read(p []byte) (int, error) {
	if now := time.Now(); now.After(b.next) && !b.ended {
		// Not every ResponseWriter has deadlines (HTTP/2 test recorders); then the server's own limits apply.
		_ = b.control.SetReadDeadline(now.Add(b.idle))
		b.next = now.Add(b.idle / 8)
	}
	n, err := b.ReadCloser.Read(p)
	b.ended = err != nil
	return n, err
}

// chunk is the body of a PATCH or PUT. A body without a length must be as long as its Content-Range says.
func (r *Registry) chunk(w http.ResponseWriter, req *http.Request) io.ReadCloser {
	body := r.moving(w, req)
	if rng, ok := spec.ParseContentRange(req.Header.Get("Content-Range")); ok && req.ContentLength < 0 {
		return &exactBody{body, rng.Len()}
	}
	return body
}

// exactBody fails when the body is longer or shorter than left bytes.
type exactBody struct {
	io.ReadCloser
	left int64
}

func (b *exactBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 || b.left > 0 && errors.Is(err, io.EOF) {
		return n, errChunkLength
	}
	return n, err
}

var errChunkLength = &Error{Code: errcode.ErrorCodeSizeInvalid, Sentence: "The chunk does not have as many bytes as its Content-Range says.",
	Remedy: "Send exactly the bytes that Content-Range names."}
