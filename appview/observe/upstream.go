package observe

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"atcr.io/operator/appview/atproto/diddoc"
)

// Services that a server sends requests to.
const (
	PDS      = "pds"
	Hold     = "hold"
	Identity = "identity"
)

// methods are the XRPC methods that we call. Others, and other paths, have one label together: a path that a hold or a
// DID document chose must not make a series.
var methods = func() map[string]bool {
	known := map[string]bool{}
	for _, m := range []string{
		"com.atproto.identity.resolveHandle", "com.atproto.repo.applyWrites", "com.atproto.repo.getRecord", "com.atproto.repo.listRecords",
		"com.atproto.repo.putRecord", "com.atproto.repo.uploadBlob", "com.atproto.server.createSession", "com.atproto.server.getServiceAuth",
		"com.atproto.server.refreshSession", "com.atproto.sync.getBlob", "com.atproto.sync.getLatestCommit",
		"io.atcr.hold.abortUpload", "io.atcr.hold.completeUpload", "io.atcr.hold.deleteBlob", "io.atcr.hold.getPartUploadUrl",
		"io.atcr.hold.getQuota", "io.atcr.hold.initiateUpload", "io.atcr.hold.notifyManifest", "io.atcr.hold.putBlob",
		"io.atcr.hold.requestCrew",
	} {
		known[m] = true
	}
	return known
}()

func methodOf(r *http.Request) string {
	if m, ok := strings.CutPrefix(r.URL.Path, "/xrpc/"); ok && methods[m] {
		return m
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/.well-known/"), strings.HasPrefix(r.URL.Path, "/did:"):
		return "document"
	case r.Method == http.MethodPut:
		return "putBytes"
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return "getBytes"
	}
	return "other"
}

// Upstream measures requests to other services. Tracing may be nil.
type Upstream struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	tracing  *Tracing
}

// NewUpstream makes the metrics; register them with [Upstream.Collectors].
func NewUpstream(prefix string, t *Tracing) *Upstream {
	return &Upstream{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "_upstream_requests_total",
			Help: "Requests to PDSes, holds and for identities, by method and status; status error means that there was no answer, and blocked that the address is none that may be reached."}, []string{"service", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "_upstream_request_seconds",
			Help: "Time to the head of the answer of such a request, its body sent.", Buckets: []float64{.003, .01, .03, .1, .3, 1, 3, 10, 60}}, []string{"service", "method"}),
		tracing: t,
	}
}

// Collectors are the metrics.
func (u *Upstream) Collectors() []prometheus.Collector {
	return []prometheus.Collector{u.requests, u.seconds}
}

// Client is c with its requests measured as those to a service. c is not changed.
func (u *Upstream) Client(c *http.Client, service string) *http.Client {
	measured := *c
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	measured.Transport = &upstreamTransport{u, service, next}
	return &measured
}

type upstreamTransport struct {
	*Upstream
	service string
	next    http.RoundTripper
}

func (t *upstreamTransport) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	start, method := time.Now(), methodOf(r)
	if id := RequestID(r.Context()); id != "" && t.service == Hold && r.Header.Get(RequestIDHeader) == "" {
		r = r.Clone(r.Context())
		r.Header.Set(RequestIDHeader, id)
	}
	if t.tracing != nil {
		resp, err = t.tracing.send(t.next, t.service, method, r)
	} else {
		resp, err = t.next.RoundTrip(r)
	}
	status := "error"
	switch {
	case err == nil:
		status = statusLabel(resp.StatusCode)
	case diddoc.Class(err) == diddoc.ClassBlockedAddress:
		status = "blocked"
	}
	t.requests.WithLabelValues(t.service, method, status).Inc()
	t.seconds.WithLabelValues(t.service, method).Observe(time.Since(start).Seconds())
	return resp, err
}

// CloseIdleConnections reaches the transport below.
func (t *upstreamTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// statusLabel bounds what another server may answer.
func statusLabel(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return strconv.Itoa(status)
}
