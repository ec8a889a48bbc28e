package server

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/hold/slow"
	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/oci/spec"
)

// observed gives each request its id, and writes its log line and metrics. Paths are logged, queries and headers never.
// A client that reads nothing of its answer for idle is cut off.
func (m *metrics) observed(log *slog.Logger, access string, idle time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		r = observe.WithRequestID(w, r)
		m.inFlight.Inc()
		defer m.inFlight.Dec()
		out := &recorder{ResponseWriter: slow.Writer(w, idle)}
		defer func() {
			panicked := recover()
			cause, _ := panicked.(error)
			status := out.status
			if status == 0 {
				status = http.StatusOK
			}
			route, took := routeOf(r.URL.Path), time.Since(start)
			m.requests.WithLabelValues(route, methodOf(r.Method), strconv.Itoa(status)).Inc()
			m.seconds.WithLabelValues(route).Observe(took.Seconds())
			m.received.Add(float64(max(r.ContentLength, 0)))
			m.sent.Add(float64(out.bytes))
			if access == config.AccessLogAll || access == config.AccessLogErrors && (status >= http.StatusBadRequest || panicked != nil) {
				log.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("method", r.Method), slog.String("path", r.URL.Path),
					slog.Int("status", status), slog.Duration("took", took.Round(time.Microsecond)), slog.Int64("sent", out.bytes),
					slog.String("client", agent(r)), slog.Bool("aborted", panicked != nil))
			}
			if panicked != nil {
				if !errors.Is(cause, http.ErrAbortHandler) {
					log.ErrorContext(r.Context(), "handler panicked", "panic", panicked, "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(out, r)
	})
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
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete:
		return m
	}
	return "other"
}

// agent is the client's own name, shortened.
func agent(r *http.Request) string {
	a, _, _ := strings.Cut(r.UserAgent(), " ")
	if len(a) > 64 {
		a = a[:64]
	}
	return a
}
