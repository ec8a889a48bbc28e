package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// A browser that is led here by somebody's page finds nothing to run, nothing that another origin may read, and no cookie
// that would make its requests those of a user.
func TestABrowserFindsNoPageNoCookieAndNoOtherOrigin(t *testing.T) {
	w := servertest.Start(t, servertest.Options{Proxy: true})
	const page = "<html><script>alert(1)</script></html>"
	blob := push(t, w, app, []byte(page))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifestOf(blob, blob, len(page), len(page))).StatusCode)
	token := w.Token("", "repository:"+app+":pull")
	statuses := map[int]int{}
	for _, path := range []string{"/", "/nowhere", "/auth/token", "/auth/token?scope=<script>", "/auth/jwks.json", "/.well-known/did.json", "/v2", "/v2/",
		"/v2/<script>", "/v2/_catalog", "/v2/" + app + "/manifests/v1", "/v2/" + app + "/manifests/<script>", "/v2/" + app + "/tags/list",
		"/v2/" + app + "/referrers/" + string(blob), "/v2/" + app + "/blobs/" + string(blob)} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
			for _, auth := range []string{"", "Bearer " + token} {
				req, err := http.NewRequestWithContext(t.Context(), method, w.URL+strings.ReplaceAll(path, "<script>", "%3Cscript%3E"), nil)
				require.NoError(t, err)
				req.Header.Set("Origin", "https://evil.example.com")
				req.Header.Set("Access-Control-Request-Method", method)
				if auth != "" {
					req.Header.Set("Authorization", auth)
				}
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				resp.Body.Close()
				what := method + " " + path
				statuses[resp.StatusCode]++
				require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"), what)
				for _, runs := range []string{"html", "svg", "javascript", "text/xml"} {
					require.NotContains(t, resp.Header.Get("Content-Type"), runs, what)
				}
				require.Empty(t, resp.Header.Values("Set-Cookie"), what)
				for name := range resp.Header {
					if path == "/.well-known/did.json" {
						break // which is for everybody, also for a program in a browser
					}
					require.False(t, strings.HasPrefix(name, "Access-Control-"), "%s: %s", what, name)
				}
			}
		}
	}
	require.Positive(t, statuses[http.StatusOK])
	require.Positive(t, statuses[http.StatusUnauthorized])
	require.Zero(t, statuses[http.StatusInternalServerError])
}
