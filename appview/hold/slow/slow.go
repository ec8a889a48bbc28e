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

// Reader reads a request body whose deadline moves with progress: the next bytes must come within idle.
func Reader(w http.ResponseWriter, body io.Reader, idle time.Duration) io.Reader {
	return &reader{rc: http.NewResponseController(w), body: body, idle: idle}
}

type reader struct {
	rc   *http.ResponseController
	body io.Reader
	idle time.Duration
	set  time.Time
}

func (r *reader) Read(p []byte) (int, error) {
	// Setting a deadline is a lock and a timer: once a second is enough.
	if now := time.Now(); now.Sub(r.set) > min(time.Second, r.idle/4) {
		_ = r.rc.SetReadDeadline(now.Add(r.idle)) // a writer without deadlines has none to move
		r.set = now
	}
	return r.body.Read(p)
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
