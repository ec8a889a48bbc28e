package controltest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// Stumble makes the API server refuse one request about each of several AppViews: the first about the first of Names, the
// second about the second, and so on. Half of the refusals are conflicts, half are its own errors.
type Stumble struct {
	Names []string // none may begin with another

	mu      sync.Mutex
	asked   map[string]int
	refused map[string]string
}

// Watch is an [Option].
func (s *Stumble) Watch(cfg *rest.Config, _ *manager.Options) {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return stumbling{next, s} })
}

// Refused is the request about an AppView that was refused, as "METHOD path"; empty: none was.
func (s *Stumble) Refused(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused[name]
}

// refuses says with which status a request is refused; zero: it is not.
func (s *Stumble) refuses(r *http.Request, body []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, name := range s.Names {
		if !strings.Contains(r.URL.Path, "/"+name) && !bytes.Contains(body, []byte(name)) {
			continue
		}
		if s.asked == nil {
			s.asked, s.refused = map[string]int{}, map[string]string{}
		}
		n := s.asked[name]
		s.asked[name]++
		if n != i {
			return 0
		}
		s.refused[name] = r.Method + " " + r.URL.Path
		if i%2 == 0 && r.Method != http.MethodGet {
			return http.StatusConflict
		}
		return http.StatusInternalServerError
	}
	return 0
}

type stumbling struct {
	next http.RoundTripper
	s    *Stumble
}

// RoundTrip implements http.RoundTripper.
func (t stumbling) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/events") || r.URL.Query().Get("watch") != "" {
		return t.next.RoundTrip(r)
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	status := t.s.refuses(r, body)
	if status == 0 {
		return t.next.RoundTrip(r)
	}
	reason := metav1.StatusReasonInternalError
	if status == http.StatusConflict {
		reason = metav1.StatusReasonConflict
	}
	return refusal(r, status, reason), nil
}
