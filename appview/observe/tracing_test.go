package observe

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTracesAreMadeWhenTheStandardVariablesSaySo(t *testing.T) {
	for _, c := range []struct {
		set    string
		want   bool
		wanted string // in the error
	}{
		{"", false, ""},
		{"OTEL_SERVICE_NAME=x", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", true, ""},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:4318/v1/traces", true, ""},
		{"OTEL_TRACES_EXPORTER=otlp", true, ""},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", false, ""},
		{"OTEL_SDK_DISABLED=true OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", false, ""},
		{"OTEL_TRACES_EXPORTER=zipkin", false, "want otlp or none"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317 OTEL_EXPORTER_OTLP_PROTOCOL=grpc", false, "want http/protobuf"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf", true, ""},
	} {
		got, err := TracingWanted(func(name string) string {
			for kv := range strings.FieldsSeq(c.set) {
				if k, v, _ := strings.Cut(kv, "="); k == name {
					return v
				}
			}
			return ""
		})
		require.Equal(t, c.want, got, c.set)
		if c.wanted == "" {
			require.NoError(t, err, c.set)
		} else {
			require.ErrorContains(t, err, c.wanted, c.set)
		}
	}
}

func TestWithoutTracesNothingIsWrapped(t *testing.T) {
	var off *Tracing
	mux := http.NewServeMux()
	require.Same(t, mux, off.Handler(nil, mux))
	require.NoError(t, off.Close())
}

func TestARequestHasOneID(t *testing.T) {
	var log strings.Builder
	logger := Logger(slog.New(slog.NewTextHandler(&log, nil)))
	require.Same(t, logger, Logger(logger), "the id is not logged twice")
	for sent, kept := range map[string]bool{"abc-1.2_X": true, "": false, "a b": false, "a\nlevel=ERROR": false, strings.Repeat("a", 65): false, `"x"`: false} {
		log.Reset()
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		r.Header.Set(RequestIDHeader, sent)
		r = WithRequestID(w, r)
		id := RequestID(r.Context())
		require.Equal(t, kept, id == sent, sent)
		require.NotEmpty(t, id)
		require.Equal(t, id, w.Header().Get(RequestIDHeader))
		logger.With("a", "b").InfoContext(r.Context(), "hello")
		require.Equal(t, 1, strings.Count(log.String(), "request_id="+id))
	}
	logger.Info("no request")
	require.Equal(t, 1, strings.Count(log.String(), "request_id"))
}

func TestLabelsOfUpstreamRequestsAreBounded(t *testing.T) {
	for target, want := range map[string]string{
		"http://pds/xrpc/com.atproto.repo.applyWrites?repo=x": "com.atproto.repo.applyWrites",
		"http://evil/xrpc/com.atproto.evil" + "X":             "getBytes",
		"http://plc/did:plc:abc":                              "document",
		"http://h/.well-known/did.json":                       "document",
		"http://s3/bucket/a/b?X-Amz-Signature=1":              "getBytes",
	} {
		require.Equal(t, want, methodOf(httptest.NewRequest(http.MethodGet, target, nil)), target)
	}
	require.Equal(t, "putBytes", methodOf(httptest.NewRequest(http.MethodPut, "http://s3/x", nil)))
	require.Equal(t, "other", methodOf(httptest.NewRequest(http.MethodPost, "http://s3/x", nil)))
	require.Equal(t, "other", statusLabel(999))
}
