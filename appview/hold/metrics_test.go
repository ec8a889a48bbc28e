package hold_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
)

func TestTheListOfMetricsIsTrue(t *testing.T) {
	w := newWorld(t, nil)
	table, err := w.hold.MetricsTable()
	require.NoError(t, err)
	b, err := os.ReadFile("metrics.md")
	require.NoError(t, err)
	text, _, found := strings.Cut(string(b), "| metric |")
	require.True(t, found)
	if os.Getenv("UPDATE_METRICS") != "" {
		require.NoError(t, os.WriteFile("metrics.md", []byte(text+table), 0o644))
		return
	}
	require.Equal(t, text+table, string(b), "metrics.md is stale: run this test with UPDATE_METRICS=1")
}

// series are the lines of a metric of the hold.
func (w *world) series(metric string) (lines []string) {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.hold.DebugHandler().ServeHTTP(rec, httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(w.t, http.StatusOK, rec.Code)
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(line, metric+"{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestTheHoldsDebugListenerAnswersProbesMetricsAndProfiles(t *testing.T) {
	w := newWorld(t, nil)
	w.push("alice.test", []byte("a blob"))
	debug := httptest.NewServer(w.hold.DebugHandler())
	t.Cleanup(debug.Close)
	get := func(base, path string) (int, string) {
		resp, err := http.Get(base + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	for _, path := range []string{"/livez", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/heap?debug=1"} {
		status, _ := get(debug.URL, path)
		require.Equal(t, http.StatusOK, status, path)
		status, _ = get(w.url, path)
		require.Equal(t, http.StatusNotFound, status, "not for the public: %s", path)
	}
	status, body := get(debug.URL, "/metrics")
	require.Equal(t, http.StatusOK, status)
	for _, line := range []string{
		`atcr_hold_uploads_total{outcome="completed"} 1`, `atcr_hold_requests_total{code="200",method="io.atcr.hold.completeUpload"} 1`,
		`atcr_hold_upstream_requests_total{method="document",service="identity",status="200"}`,
	} {
		require.True(t, strings.Contains(body, line), line)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		require.False(t, strings.HasPrefix(p.Metric, "atcr_"), "%s: %s", p.Metric, p.Text)
	}
}
