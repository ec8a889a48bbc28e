package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/files"
)

func TestAClientThatReadsNothingOfALongAnswerIsCutOff(t *testing.T) {
	ended := make(chan error, 1)
	s := httptest.NewServer(newMetrics(nil).observed(slog.New(slog.DiscardHandler), config.AccessLogAll, 50*time.Millisecond, http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					ended <- err
					return
				}
			}
		})))
	t.Cleanup(s.Close)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.Error(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the handler still waits for it")
	}
}

func TestTheAccessLogHasTheRequestsThatTheOperatorWants(t *testing.T) {
	for access, want := range map[string][]string{config.AccessLogAll: {"/well", "/wrong"}, config.AccessLogErrors: {"/wrong"}, config.AccessLogOff: nil} {
		t.Run(access, func(t *testing.T) {
			var out bytes.Buffer
			h := newMetrics(nil).observed(slog.New(slog.NewJSONHandler(&out, nil)), access, time.Minute, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/wrong" {
					w.WriteHeader(http.StatusBadRequest)
				}
			}))
			for _, path := range []string{"/well?secret=hush", "/wrong?secret=hush"} {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
			}
			var logged []string
			for line := range bytes.Lines(out.Bytes()) {
				var entry struct{ Msg, Path string }
				require.NoError(t, json.Unmarshal(line, &entry))
				require.Equal(t, "request", entry.Msg)
				logged = append(logged, entry.Path)
			}
			require.Equal(t, want, logged)
			require.NotContains(t, out.String(), "hush")
		})
	}
}

func TestAKeyFileThatCannotBeLoadedIsCounted(t *testing.T) {
	m := newMetrics(nil)
	path := filepath.Join(t.TempDir(), "key.pem")
	keys, err := auth.OpenKeys(auth.KeyFiles{KeyPath: path, CertPath: path + ".crt", Service: "registry.test", Kind: "ecdsa"}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	keys.Observe(m.reloaded("keys"))
	watcher := files.NewWatcher(10*time.Millisecond, slog.New(slog.DiscardHandler))
	keys.Watch(watcher)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); watcher.Run(ctx) }()
	defer func() { stop(); <-done }()
	before := keys.Set().Hash()
	reloads := func() map[string]float64 {
		out := map[string]float64{}
		families, err := m.registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, metric := range f.GetMetric() {
				if f.GetName() == "atcr_reloads_total" {
					out[metric.GetLabel()[1].GetValue()] = metric.GetCounter().GetValue()
				}
			}
		}
		return out
	}
	require.Equal(t, map[string]float64{"loaded": 0, "failed": 0}, reloads())
	require.NoError(t, os.WriteFile(path, []byte("no key"), 0o600))
	require.Eventually(t, func() bool { return reloads()["failed"] > 0 }, time.Minute, 5*time.Millisecond)
	require.Zero(t, reloads()["loaded"])
	require.Equal(t, before, keys.Set().Hash(), "the last good keys stay")
}
