package server_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// flood is a body of 64 MiB; it counts what is taken of it.
type flood struct{ sent atomic.Int64 }

func (f *flood) Read(p []byte) (int, error) {
	if f.sent.Load() >= 64<<20 {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = 'x'
	}
	f.sent.Add(int64(len(p)))
	return len(p), nil
}

// Whatever is sent where: only the bytes of a blob are taken without a limit, and they go on to the hold.
func TestNoRouteTakesABodyWithoutEnd(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	d := digest.FromString("x")
	uploads, open := "/v2/"+app+"/blobs/uploads/", start(t, w)
	paths := []string{"/", "/v2/", "/v2/_catalog", "/v2/" + app + "/manifests/v1", "/v2/" + app + "/manifests/" + string(d), "/v2/" + app + "/tags/list",
		"/v2/" + app + "/referrers/" + string(d), "/v2/" + app + "/blobs/" + string(d), uploads, open, "/v2/nonsense", "/auth/token", "/nowhere"}
	token := w.Token(servertest.Alice, "repository:"+app+":pull,push,delete")
	for _, bearer := range []string{"", token} {
		for _, path := range paths {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				if bearer != "" && path == open && (method == "PATCH" || method == "PUT" || method == "DELETE") {
					continue // a blob, and what would end it
				}
				body := &flood{}
				req, err := http.NewRequestWithContext(t.Context(), method, w.URL+path, body)
				require.NoError(t, err)
				req.Header.Set("Content-Type", map[bool]string{true: "application/x-www-form-urlencoded", false: "application/vnd.oci.image.manifest.v1+json"}[path == "/auth/token"])
				if bearer != "" {
					req.Header.Set("Authorization", "Bearer "+bearer)
				}
				transport := &http.Transport{}
				resp, err := transport.RoundTrip(req)
				if err == nil { // else it hung up in the middle
					resp.Body.Close()
					if bearer != "" && method == "PUT" && strings.Contains(path, "/manifests/") {
						require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
					}
				}
				transport.CloseIdleConnections()
				require.Less(t, body.sent.Load(), int64(32<<20), "%s %s", method, path)
			}
		}
	}
	require.Equal(t, http.StatusNoContent, w.Do(servertest.Alice, http.MethodGet, open, app, nil, nil).StatusCode)
}
