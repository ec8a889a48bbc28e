package server

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/accesslog"
	"atcr.io/operator/appview/hold/slow"
	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/oci/spec"
)

// observed gives each request its id, and writes its log line and metrics. Paths are logged, queries and headers never.
// A client that reads nothing of its answer for idle is cut off.
func (m *metrics) observed(log *slog.Logger, access string, idle time.Duration, next http.Handler) http.Handler {
	lines, _ := accesslog.Requests(log)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		r = observe.WithRequestID(w, r)
		m.inFlight.Inc()
		defer m.inFlight.Dec()
		out := &recorder{ResponseWriter: slow.Writer(w, idle)}
		defer func() {
			panicked := recover()
			status := out.status
			if status == 0 {
				status = http.StatusOK
			}
			took := time.Since(start)
			counted := m.kinds.of(m, requestKind{routeOf(r.URL.Path), methodOf(r.Method), status})
			counted.requests.Inc()
			counted.seconds.Observe(took.Seconds())
			m.received.Add(float64(max(r.ContentLength, 0)))
			m.sent.Add(float64(out.bytes))
			wanted := access == config.AccessLogAll || access == config.AccessLogErrors && (status >= http.StatusBadRequest || panicked != nil)
			if wanted && lines.Enabled(r.Context(), slog.LevelInfo) {
				line := slog.NewRecord(start.Add(took), slog.LevelInfo, "request", 0)
				line.AddAttrs(slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", status),
					slog.Duration("took", took.Round(time.Microsecond)), slog.Int64("sent", out.bytes), slog.String("client", agent(r)))
				if panicked != nil {
					line.AddAttrs(slog.Bool("aborted", true))
				}
				_ = lines.Handle(r.Context(), line) // there is nowhere to say that the log cannot be written
			}
			if panicked != nil {
				if cause, _ := panicked.(error); !errors.Is(cause, http.ErrAbortHandler) {
					m.panics.WithLabelValues("request").Inc()
					log.ErrorContext(r.Context(), "handler panicked", "panic", panicked, "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(out, r)
	})
}

// kinds keeps the metrics of each kind of request: finding them by their labels costs more than counting. There are
// only as many kinds as routes, methods and statuses that we answer with.
type kinds struct {
	mu    sync.RWMutex
	known map[requestKind]kindMetrics
}

type requestKind struct {
	route, method string
	status        int
}

type kindMetrics struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

func (k *kinds) of(m *metrics, kind requestKind) kindMetrics {
	k.mu.RLock()
	found, ok := k.known[kind]
	k.mu.RUnlock()
	if ok {
		return found
	}
	found = kindMetrics{m.requests.WithLabelValues(kind.route, kind.method, strconv.Itoa(kind.status)), m.seconds.WithLabelValues(kind.route)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = map[requestKind]kindMetrics{}
	}
	k.known[kind] = found
	return found
}

// recorder notes status and length of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach deadlines and flushing.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func routeOfRequest(r *http.Request) string { return routeOf(r.URL.Path) }

// routeOf is a bounded label: repositories and digests never become label values.
func routeOf(path string) string {
	if !strings.HasPrefix(path, "/v2") {
		switch path {
		case auth.TokenPath:
			return "token"
		case jwksPath:
			return "jwks"
		}
		return "other"
	}
	switch spec.ParsePath(path).Endpoint {
	case spec.Base:
		return "base"
	case spec.Catalog:
		return "catalog"
	case spec.Manifest:
		return "manifest"
	case spec.Blob:
		return "blob"
	case spec.Uploads, spec.Upload:
		return "upload"
	case spec.Tags:
		return "tags"
	case spec.Referrers:
		return "referrers"
	}
	return "other"
}

func methodOf(m string) string {
	if i := slices.Index(methods, m); i >= 0 {
		return methods[i] // m is a part of the request, which a label would keep
	}
	return "other"
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete}

// agent is the client's own name, shortened.
func agent(r *http.Request) string {
	a, _, _ := strings.Cut(r.UserAgent(), " ")
	if len(a) > 64 {
		a = a[:64]
	}
	return a
}
