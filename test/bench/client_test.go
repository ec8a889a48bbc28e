package bench

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lying answers with whatever the path says: /<status>/<body>.
func lying(t *testing.T) *conn {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		var body string
		_, err := fmt.Sscanf(strings.TrimPrefix(r.URL.Path, "/"), "%d/%s", &status, &body)
		if err != nil {
			status = http.StatusTeapot
		}
		w.Header().Set("Docker-Content-Digest", digestOf([]byte(body)))
		w.Header().Set("Connection", r.Header.Get("X-Then"))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	c, err := dial(strings.TrimPrefix(server.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(c.close)
	return c
}

func TestAnAnswerThatIsNotWhatItMustBeIsAnError(t *testing.T) {
	c := lying(t)
	good := want{status: 200, body: []byte("abc"), length: 3, digest: digestOf([]byte("abc"))}
	_, err := c.do(&call{method: http.MethodGet, target: "/200/abc", want: good})
	require.NoError(t, err)
	for name, target := range map[string]string{
		"another status": "/500/abc", "another byte": "/200/abd", "a byte less": "/200/ab", "a byte more": "/200/abcd",
	} {
		_, err := c.do(&call{method: http.MethodGet, target: target, want: good})
		require.Error(t, err, name)
	}
	for name, w := range map[string]want{
		"another digest": {status: 200, digest: digestOf([]byte("x"))},
		"another length": {status: 200, length: 4},
		"another list":   {status: 200, list: []byte(`["abc"]`)},
	} {
		_, err := c.do(&call{method: http.MethodGet, target: "/200/abc", want: w})
		require.Error(t, err, name)
	}
	_, err = c.do(&call{method: http.MethodHead, target: "/200/abc", want: want{status: 200, digest: digestOf([]byte("abcd"))}})
	require.Error(t, err, "HEAD is checked too")
}

func TestAConnectionThatTheServerClosesIsOpenedAgain(t *testing.T) {
	c := lying(t)
	for range 2 {
		_, err := c.do(&call{method: http.MethodGet, target: "/200/abc", header: "X-Then: close\r\n", want: want{status: 200, body: []byte("abc")}})
		require.NoError(t, err)
	}
}

func TestALocationIsFollowedAsItCame(t *testing.T) {
	for value, expected := range map[string][2]string{
		"/v2/a/blobs/uploads/x":            {"here:1", "/v2/a/blobs/uploads/x"},
		"http://there:2/p%2F?_state=%3D&a": {"there:2", "/p%2F?_state=%3D&a"},
	} {
		host, target, err := location("here:1", value)
		require.NoError(t, err)
		require.Equal(t, expected, [2]string{host, target})
	}
	_, _, err := location("here:1", "elsewhere")
	require.Error(t, err)
}

func TestMediansAndQuantiles(t *testing.T) {
	require.InDelta(t, 2.0, samples{3, 1, 2}.median(), 1e-9)
	require.InDelta(t, 2.5, samples{1, 2, 3, 4}.median(), 1e-9)
	require.Equal(t, "2.00 (1.00-3.00)", samples{3, 1, 2}.String())
	require.Equal(t, "7.00x", ratio(70, 10))
}
