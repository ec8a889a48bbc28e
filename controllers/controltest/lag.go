package controltest

import (
	"io"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// Lagging lets the operator see what its watches say only after a while, as a busy API server would.
func Lagging(by time.Duration) Option {
	return func(cfg *rest.Config, _ *manager.Options) {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return lagging{next, by} })
	}
}

type lagging struct {
	next http.RoundTripper
	by   time.Duration
}

// RoundTrip implements http.RoundTripper.
func (l lagging) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err == nil && r.URL.Query().Get("watch") != "" {
		resp.Body = late(resp.Body, l.by)
	}
	return resp, err
}

// arrival is what was read from a body, and when it may be handed on.
type arrival struct {
	bytes []byte
	err   error
	at    time.Time
}

// lateBody is a body each of whose bytes comes later than it was sent.
type lateBody struct {
	sent     io.ReadCloser
	arrivals chan arrival
	close    func()
	closed   chan struct{}
	rest     arrival
}

func late(sent io.ReadCloser, by time.Duration) io.ReadCloser {
	l := &lateBody{sent: sent, arrivals: make(chan arrival, 4096), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	go func() {
		for {
			buf := make([]byte, 32<<10)
			n, err := sent.Read(buf)
			select {
			case l.arrivals <- arrival{buf[:n], err, time.Now().Add(by)}:
			case <-l.closed:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return l
}

// Read implements io.Reader.
func (l *lateBody) Read(p []byte) (int, error) {
	for len(l.rest.bytes) == 0 {
		if l.rest.err != nil {
			return 0, l.rest.err
		}
		select {
		case l.rest = <-l.arrivals:
		case <-l.closed:
			return 0, io.ErrClosedPipe
		}
		due := time.NewTimer(time.Until(l.rest.at))
		select {
		case <-due.C:
		case <-l.closed:
			due.Stop()
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(p, l.rest.bytes)
	l.rest.bytes = l.rest.bytes[n:]
	return n, nil
}

// Close implements io.Closer.
func (l *lateBody) Close() error {
	l.close()
	return l.sent.Close()
}
