package oci

import (
	"io"
	"net/http"
	"time"
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
