// Package slow lets a body take as long as it makes progress: its deadlines move with the bytes.
//
// A server with a fixed read or write timeout cuts off a large blob on a slow line; one without lets an idle client
// hold a connection for ever.
package slow

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// chunk is how many bytes must move within one period.
const chunk = 1 << 20

// Reader reads a request body whose deadline moves with progress: the next bytes must come within idle. A slow client
// may take hours; there is no other read timeout on bodies. A request without a body has none to wait for.
func Reader(w http.ResponseWriter, body io.ReadCloser, idle time.Duration) io.ReadCloser {
	if body == nil || body == http.NoBody {
		return http.NoBody
	}
	return &reader{ReadCloser: body, rc: http.NewResponseController(w), idle: idle}
}

type reader struct {
	io.ReadCloser
	rc    *http.ResponseController
	idle  time.Duration
	next  time.Time // when the deadline is moved again: setting it is a lock and a timer, too much for each read
	ended bool      // net/http now waits for the connection to break: a deadline would look like that
}

func (r *reader) Read(p []byte) (int, error) {
	if now := time.Now(); now.After(r.next) && !r.ended {
		_ = r.rc.SetReadDeadline(now.Add(r.idle)) // a writer without deadlines has none to move
		r.next = now.Add(min(time.Second, r.idle/8))
	}
	n, err := r.ReadCloser.Read(p)
	r.ended = err != nil
	return n, err
}

// Writer writes a response whose deadline moves with progress: every MiB must be taken within idle. Files are still
// sent by the kernel (sendfile).
func Writer(w http.ResponseWriter, idle time.Duration) http.ResponseWriter {
	return &writer{ResponseWriter: w, rc: http.NewResponseController(w), idle: idle}
}

type writer struct {
	http.ResponseWriter
	rc   *http.ResponseController
	idle time.Duration
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) Write(p []byte) (int, error) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.idle))
	return w.ResponseWriter.Write(p)
}

// ReadFrom copies in chunks. http.ServeContent passes a LimitedReader of a file: only that form, not one nested in
// another, is sent by the kernel.
func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	var total int64
	for limited.N > 0 {
		_ = w.rc.SetWriteDeadline(time.Now().Add(w.idle))
		want := min(int64(chunk), limited.N)
		n, err := io.CopyN(w.ResponseWriter, limited.R, want)
		total += n
		limited.N -= n
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
