package oci

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A hold may read a blob back for minutes after its last byte. A reader that asks once more whether that was the end
// must not start the clock again: net/http would take the connection for dead and cancel the request.
func TestTheDeadlineOfABodyEndsWithTheBody(t *testing.T) {
	const idle = 80 * time.Millisecond
	r := New(Config{BodyIdle: idle})
	for name, size := range map[string]int64{"with a length": 1000, "chunked": -1} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body := r.moving(w, req)
			n, err := io.Copy(io.Discard, body)
			<-time.After(idle / 4) // the last part goes to the hold
			again, end := body.Read(make([]byte, 1))
			if err != nil || n != 1000 || again != 0 || end != io.EOF {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			select {
			case <-req.Context().Done():
				w.WriteHeader(http.StatusGone)
			case <-time.After(4 * idle): // the hold completes the blob
			}
		}))
		t.Cleanup(s.Close)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL, bytes.NewReader(make([]byte, 1000)))
		require.NoError(t, err)
		req.ContentLength = size
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err, name)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, name)
	}
}
