package server_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/server/servertest"
)

// span is what a test looks at.
type span struct {
	service, name, trace, id, parent string
	attributes                       string
}

// receiver is an OTLP/HTTP collector.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []span
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		var in collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &in)
		}
		if err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", req.URL.Path, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rs := range in.ResourceSpans {
			service := ""
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.GetStringValue()
				}
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					r.spans = append(r.spans, span{service, s.Name, hex.EncodeToString(s.TraceId), hex.EncodeToString(s.SpanId),
						hex.EncodeToString(s.ParentSpanId), fmt.Sprint(s.Attributes, s.Events, s.Status)})
				}
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// find waits for a span with a name and parent; an empty parent is any.
func (r *receiver) find(t *testing.T, service, name, parent string) span {
	t.Helper()
	return r.wait(t, service, name, func(s span) bool { return parent == "" || s.parent == parent })
}

func (r *receiver) wait(t *testing.T, service, name string, is func(span) bool) (found span) {
	t.Helper()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, s := range r.spans {
			if s.service == service && s.name == name && is(s) {
				found = s
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond, "%s %s", service, name)
	return found
}

func TestATraceGoesFromTheRequestToPDSAndHold(t *testing.T) {
	r := newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20") // milliseconds
	holds, err := observe.OpenTracing(t.Context(), "atcr-hold", "test")
	require.NoError(t, err)
	t.Cleanup(func() { _ = holds.Close() }) // the collector may be gone
	w := servertest.Start(t, servertest.Options{HoldTracing: holds, AppViewEnv: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.URL}})
	img, err := random.Image(1000, 1)
	require.NoError(t, err)
	ref := w.Host() + "/" + app + ":v1"
	require.NoError(t, crane.Push(img, ref, crane.WithAuth(w.Auth(servertest.Alice))))
	got, err := crane.Pull(ref)
	require.NoError(t, err)
	require.NoError(t, drain(got))

	put := r.find(t, "atcr-appview", "PUT manifest", "")
	write := r.find(t, "atcr-appview", "pds com.atproto.repo.applyWrites", put.id)
	require.Equal(t, put.trace, write.trace)
	call := r.find(t, "atcr-appview", "hold io.atcr.hold.completeUpload", "")
	served := r.find(t, "atcr-hold", "POST io.atcr.hold.completeUpload", call.id)
	require.Equal(t, call.trace, served.trace, "one trace over both servers")
	upload := r.wait(t, "atcr-appview", "PUT upload", func(s span) bool { return s.id == call.parent })
	require.Equal(t, upload.trace, served.trace)
	r.find(t, "atcr-appview", "GET token", "")

	// A trace that a client began goes on.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/v2/?secret-query=1", nil)
	require.NoError(t, err)
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", r.find(t, "atcr-appview", "GET base", "b7ad6b7169203331").trace)

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		for _, secret := range []string{"?", "secret-query", "sig=", "eyJ", w.Account(servertest.Alice).AppPassword, "Bearer"} {
			require.False(t, strings.Contains(s.name+s.attributes, secret), "%s in %s: %s", secret, s.name, s.attributes)
		}
	}
}

func TestWithoutOTELVariablesNothingIsTraced(t *testing.T) {
	asked := make(chan string, 100)
	w := servertest.Start(t, servertest.Options{WrapPDS: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case asked <- r.Header.Get("Traceparent"):
			default:
			}
			next.ServeHTTP(w, r)
		})
	}})
	w.Token(servertest.Alice)
	require.Empty(t, <-asked)
}
