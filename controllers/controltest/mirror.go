package controltest

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// Mirrored changes where the images of Deployments come from as the operator writes them, as a mutating webhook would.
func Mirrored(from, to string) Option {
	return func(cfg *rest.Config, _ *manager.Options) {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return mirroring{next, from, to} })
	}
}

type mirroring struct {
	next     http.RoundTripper
	from, to string
}

// RoundTrip implements http.RoundTripper.
func (m mirroring) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPatch || !strings.Contains(r.URL.Path, "/deployments/") {
		return m.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body.Close()
	body = bytes.ReplaceAll(body, []byte(`"image":"`+m.from), []byte(`"image":"`+m.to))
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.GetBody = nil
	return m.next.RoundTrip(r)
}
