package oci

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/distribution/distribution/v3/registry/api/errcode"

	"atcr.io/operator/appview/hold/slow"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/oci/upload"
)

// moving is the body of a request with a deadline that moves with its progress.
func (r *Registry) moving(w http.ResponseWriter, req *http.Request) io.ReadCloser {
	return slow.Reader(w, req.Body, r.BodyIdle)
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

// maxBodies is how many requests of one account may send a body at the same time: twice its uploads, since clients that
// lost a connection try again while the server still has the first request.
const maxBodies = 2 * upload.MaxOpen

// bodies counts the requests with a body, by account.
type bodies struct {
	mu sync.Mutex
	of map[syntax.DID]int
}

// take counts one more, and gives the function that takes it back.
func (b *bodies) take(did syntax.DID) (release func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of[did] >= maxBodies {
		return nil, &Error{Code: errcode.ErrorCodeTooManyRequests, RetryAfter: 10 * time.Second,
			Sentence: "You send " + strconv.Itoa(maxBodies) + " requests with a body at the same time already.", Remedy: "Wait until some have ended."}
	}
	b.of[did]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.of[did]--; b.of[did] == 0 {
			delete(b.of, did)
		}
	}, nil
}
