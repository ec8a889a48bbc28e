package controltest

import (
	"errors"
	"net/http"
	"strings"
	"sync"

	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// Crash ends the operator between two writes: as soon as it has made After of them (events are not counted), none of its
// writes reaches the API server any more.
type Crash struct {
	After int

	mu     sync.Mutex
	writes int
	last   string // the first write that was not made
}

// Option makes the operator crash.
func (c *Crash) Option(cfg *rest.Config, _ *manager.Options) {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return crashing{next, c} })
}

// Crashed names the write that was not made any more, as "METHOD path"; empty: all were.
func (c *Crash) Crashed() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *Crash) allows(r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.writes == c.After:
		if c.last == "" && !strings.Contains(r.URL.Path, "/events") {
			c.last = r.Method + " " + r.URL.Path
		}
		return c.last == "" // an event before it
	case !strings.Contains(r.URL.Path, "/events"):
		c.writes++
	}
	return true
}

type crashing struct {
	next http.RoundTripper
	c    *Crash
}

// RoundTrip implements http.RoundTripper.
func (t crashing) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.c.allows(r) {
		return t.next.RoundTrip(r)
	}
	if r.Body != nil {
		r.Body.Close()
	}
	return nil, errors.New("the operator is gone")
}
