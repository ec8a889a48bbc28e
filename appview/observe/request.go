package observe

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"atcr.io/operator/appview/config/accesslog"
)

// RequestIDHeader names a request in its answer, and between our servers.
const RequestIDHeader = "X-Request-Id"

const maxRequestID = 64 // bytes of an id that somebody else made

type requestIDKey struct{}

// WithRequestID gives a request an id, from its header when a proxy or client has made one, and puts it in the answer.
func WithRequestID(w http.ResponseWriter, r *http.Request) *http.Request {
	id := r.Header.Get(RequestIDHeader)
	if !validID(id) {
		id = rand.Text()
	}
	w.Header()[RequestIDHeader] = []string{id}
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		span.SetAttributes(attribute.String("atcr.request.id", id))
	}
	return r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
}

// RequestID is the id of the request that ctx belongs to, or empty.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// validID keeps what strangers write out of logs.
func validID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// Logger adds the request's id, and the trace's when there is one, to each line that is logged with a context.
func Logger(log *slog.Logger) *slog.Logger {
	if _, done := log.Handler().(contextHandler); done {
		return log
	}
	return slog.New(contextHandler{log.Handler()})
}

type contextHandler struct{ slog.Handler }

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	if s := trace.SpanContextFromContext(ctx); s.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextHandler{h.Handler.WithAttrs(attrs)}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name)}
}

// RequestLines passes on what [accesslog.Requests] asks for.
func (h contextHandler) RequestLines() (slog.Handler, func()) {
	lines, flush := accesslog.Requests(slog.New(h.Handler))
	return contextHandler{lines}, flush
}
