package server

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
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
	case <-time.After(20 * time.Second):
		t.Fatal("the handler still waits for it")
	}
}
