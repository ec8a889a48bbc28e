package controltest

import (
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// Counter counts requests to the API server. Events are counted apart, watches not at all: one is open for every kind
// whatever happens.
type Counter struct {
	mu   sync.Mutex
	seen map[string]int
	took map[string][]time.Duration
}

// Count counts what is asked with a configuration.
func (c *Counter) Count(cfg *rest.Config) { cfg.Wrap(c.wrap) }

func (c *Counter) wrap(next http.RoundTripper) http.RoundTripper { return counting{next, c} }

type counting struct {
	next http.RoundTripper
	c    *Counter
}

// RoundTrip implements http.RoundTripper.
func (t counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("watch") != "" {
		return t.next.RoundTrip(r)
	}
	t.c.add(r)
	begin := time.Now()
	defer func() { t.c.answered(r, time.Since(begin)) }()
	return t.next.RoundTrip(r)
}

func (c *Counter) add(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[r.Method+" "+r.URL.Path]++
}

func (c *Counter) answered(r *http.Request, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.took == nil {
		c.took = map[string][]time.Duration{}
	}
	what := r.Method + " " + path.Base(path.Dir(r.URL.Path))
	c.took[what] = append(c.took[what], took)
}

// Took is how long the API server took for each request of a method for one object of a resource.
func (c *Counter) Took(method, resource string) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.took[method+" "+resource])
}

// Reset forgets what was counted.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen, c.took = nil, nil
}

// Events are those that wrote an event.
func (c *Counter) Events() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for k, times := range c.seen {
		if strings.Contains(k, "/events") {
			n += times
		}
	}
	return n
}

// Requests are all that were counted, as "METHOD path (times)", without events.
func (c *Counter) Requests() []string { return c.list(func(string, string) bool { return true }) }

// Writes are those that change something, without events.
func (c *Counter) Writes() []string {
	return c.list(func(method, _ string) bool { return method != http.MethodGet })
}

func (c *Counter) list(want func(method, path string) bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, k := range slices.Sorted(maps.Keys(c.seen)) {
		method, at, _ := strings.Cut(k, " ")
		if strings.Contains(at, "/events") || !want(method, at) {
			continue
		}
		for range c.seen[k] {
			out = append(out, fmt.Sprintf("%s %s", method, at))
		}
	}
	return out
}
