package controltest

import (
	"net/http"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// Meanwhile lets something happen between the operator's decision to send a request and the moment at which the API
// server gets it.
type Meanwhile struct {
	Method string // of the request
	Path   string // end of its path

	do atomic.Pointer[func()]
}

// Once makes do happen before the next such request is sent.
func (m *Meanwhile) Once(do func()) { m.do.Store(&do) }

// Watch is an [Option].
func (m *Meanwhile) Watch(cfg *rest.Config, _ *manager.Options) {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return interrupted{next, m} })
}

type interrupted struct {
	next http.RoundTripper
	m    *Meanwhile
}

// RoundTrip implements http.RoundTripper.
func (i interrupted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == i.m.Method && strings.HasSuffix(r.URL.Path, i.m.Path) {
		if do := i.m.do.Swap(nil); do != nil {
			(*do)()
		}
	}
	return i.next.RoundTrip(r)
}
