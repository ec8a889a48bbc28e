package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Floor serves on addr a bare net/http handler: the same server settings as ours and nothing to do. A PUT says what
// every later GET is answered with.
func Floor(ctx context.Context, addr string) error {
	type answer struct {
		body                []byte
		contentType, digest string
	}
	var now atomic.Pointer[answer]
	now.Store(&answer{body: []byte("{}"), contentType: "application/json"})
	server := &http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 90 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := now.Load()
			if r.Method == http.MethodPut {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				now.Store(&answer{body: body, contentType: r.Header.Get("Content-Type"), digest: digestOf(body)})
				w.Header().Set("Docker-Content-Digest", digestOf(body))
				w.WriteHeader(http.StatusCreated)
				return
			}
			h := w.Header()
			h.Set("Content-Type", a.contentType)
			h.Set("Docker-Content-Digest", a.digest)
			h.Set("Content-Length", strconv.Itoa(len(a.body)))
			_, _ = w.Write(a.body) // the client may have left
		})}
	context.AfterFunc(ctx, func() { server.Close() })
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return server.Serve(l)
}

// serveFloor tells the floor what to answer.
func (r *run) serveFloor(ctx context.Context, i *image) error {
	for _, p := range r.peers {
		if p.name != "floor" {
			continue
		}
		d := dialer{}
		err := p.pushManifest(ctx, d, repository, i.tag, i.manifest)
		d.close()
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
	}
	return nil
}
