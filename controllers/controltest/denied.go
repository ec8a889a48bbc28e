package controltest

import (
	"net/http"
	"sync"

	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// Denied collects the operator's requests that the API server answers with 403.
type Denied struct {
	mu   sync.Mutex
	seen []string
}

// Watch is an [Option].
func (d *Denied) Watch(cfg *rest.Config, _ *manager.Options) {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return watching{next, d} })
}

// Requests that were denied, as "METHOD path".
func (d *Denied) Requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.seen...)
}

type watching struct {
	next http.RoundTripper
	d    *Denied
}

// RoundTrip implements http.RoundTripper.
func (w watching) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusForbidden {
		w.d.mu.Lock()
		defer w.d.mu.Unlock()
		w.d.seen = append(w.d.seen, r.Method+" "+r.URL.Path)
	}
	return resp, err
}
