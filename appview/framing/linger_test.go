package framing_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/framing"
	"atcr.io/operator/appview/framing/framingtest"
)

// refusing answers requests when it has read none or a part of their bodies.
func refusing(t *testing.T, reads int64) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, reads)
		http.Error(w, "no room", http.StatusInsufficientStorage)
	}))
	srv.Listener = framing.Heard(srv.Listener)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

var large = bytes.Repeat([]byte("x"), 64<<20)

func TestAClientThatSendsAllBeforeItReadsHearsAnAnswerThatCameEarlier(t *testing.T) {
	for _, reads := range []int64{0, 8 << 20} {
		srv := refusing(t, reads)
		framingtest.Heard(t, srv.Listener.Addr().String(), "PUT / HTTP/1.1\r\nHost: x\r\n", large, http.StatusInsufficientStorage, "no room")
	}
}

func TestAGoClientHearsAnAnswerThatCameEarlier(t *testing.T) {
	srv := refusing(t, 8<<20)
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, srv.URL, bytes.NewReader(large))
		require.NoError(t, err)
		resp, err := srv.Client().Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.Equal(t, http.StatusInsufficientStorage, resp.StatusCode)
		require.Equal(t, "no room\n", string(body))
	}
}
