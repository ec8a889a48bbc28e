package controltest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// Fault makes the API server refuse requests of the operator while it is on.
type Fault struct {
	Method string // of the requests that fail
	Path   string // part of their path

	// Status of the answer; zero: 500. 409 is a conflict.
	Status int

	// AfterTheFact lets the API server act, and loses its answer.
	AfterTheFact bool

	mu    sync.Mutex
	off   bool
	times []time.Time
}

// With makes the operator meet f.
func With(f *Fault) Option {
	return func(cfg *rest.Config, _ *manager.Options) {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return faulty{next, f} })
	}
}

// Off ends the fault.
func (f *Fault) Off() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

// On begins it again.
func (f *Fault) On() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = false
}

// Times are when requests failed.
func (f *Fault) Times() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.times...)
}

func (f *Fault) hits(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off || r.Method != f.Method || !strings.Contains(r.URL.Path, f.Path) {
		return false
	}
	f.times = append(f.times, time.Now())
	return true
}

type faulty struct {
	next http.RoundTripper
	f    *Fault
}

// RoundTrip implements http.RoundTripper.
func (t faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.f.hits(r) {
		return t.next.RoundTrip(r)
	}
	if t.f.AfterTheFact {
		if resp, err := t.next.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
	} else if r.Body != nil {
		r.Body.Close()
	}
	switch t.f.Status {
	case 0:
		return refusal(r, http.StatusInternalServerError, metav1.StatusReasonInternalError), nil
	case http.StatusConflict:
		return refusal(r, http.StatusConflict, metav1.StatusReasonConflict), nil
	}
	return refusal(r, t.f.Status, metav1.StatusReasonUnknown), nil // as webhooks answer
}

// refusal is an answer of the API server.
func refusal(r *http.Request, status int, reason metav1.StatusReason) *http.Response {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"injected","reason":%q,"code":%d}`, reason, status)
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": []string{"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}
}
