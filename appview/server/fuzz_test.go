package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http/httpguts"

	"atcr.io/operator/appview/server/servertest"
)

// ask sends a request with any header value straight to the AppView's handler.
func ask(w *servertest.World, method, path, token, header, value string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header[header] = []string{value}
	out := httptest.NewRecorder()
	w.AppView.Handler().ServeHTTP(out, req)
	return out
}

// A manifest has one form, whose digest the client checks: it is answered as it was pushed, whatever Accept says (OCI
// distribution-spec 1.1, "Pulling manifests").
func FuzzAccept(f *testing.F) {
	const image, index = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
	for _, seed := range []string{"", "*/*", image, index, index + ", " + image, "application/vnd.docker.distribution.manifest.v1+json", "text/html;q=0", image + ";q=0",
		strings.Repeat(image+",", 500), ";;;,,,", "application/vnd.oci.image.manifest.v1+json;charset=\"", "\xff", "a/b;q=1e400"} {
		f.Add(seed)
	}
	w := servertest.Start(f, servertest.Options{})
	child := manifestOf(push(f, w, app, []byte("{}")), push(f, w, app, []byte("layer")), 2, 5)
	require.Equal(f, http.StatusCreated, putManifest(w, servertest.Alice, app, "image", child).StatusCode)
	parent := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, index, image, digest.FromBytes(child), len(child))
	resp := w.Do(servertest.Alice, http.MethodPut, "/v2/"+app+"/manifests/index", app, strings.NewReader(string(parent)), http.Header{"Content-Type": {index}})
	require.Equal(f, http.StatusCreated, resp.StatusCode)
	token := w.Token("", "repository:"+app+":pull")
	f.Fuzz(func(t *testing.T, accept string) {
		for _, m := range []struct {
			ref, kind string
			body      []byte
		}{{"image", image, child}, {"index", index, parent}, {string(digest.FromBytes(child)), image, child}} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				out := ask(w, method, "/v2/"+app+"/manifests/"+m.ref, token, "Accept", accept)
				require.Equal(t, http.StatusOK, out.Code, "%s %s: %s", method, m.ref, out.Body)
				require.Equal(t, m.kind, out.Header().Get("Content-Type"))
				require.Equal(t, string(digest.FromBytes(m.body)), out.Header().Get("Docker-Content-Digest"))
				require.Equal(t, fmt.Sprint(len(m.body)), out.Header().Get("Content-Length"))
				if method == http.MethodGet {
					require.Equal(t, string(m.body), out.Body.String())
				}
			}
		}
	})
}

// The same of a blob whose bytes pass through the AppView, whatever Range says: all of it, the part that the answer
// names, or nothing.
func FuzzRangeOfAStreamedBlob(f *testing.F) {
	for _, seed := range []string{"", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=2-1", "bytes=0-99999999999999999999", "bytes=0-1,3-4", "bytes=0-,0-", "bytes=-0",
		"bytes=10-", "items=0-1"} {
		f.Add(seed)
	}
	w := servertest.Start(f, servertest.Options{Proxy: true})
	const blob = "0123456789"
	path := "/v2/" + app + "/blobs/" + string(push(f, w, app, []byte(blob)))
	token := w.Token("", "repository:"+app+":pull")
	f.Fuzz(func(t *testing.T, ranges string) {
		if !httpguts.ValidHeaderFieldValue(ranges) {
			return // net/http refuses the request
		}
		out := ask(w, http.MethodGet, path, token, "Range", ranges)
		switch out.Code {
		case http.StatusOK:
			require.Equal(t, blob, out.Body.String())
		case http.StatusPartialContent:
			var first, last, size int
			_, err := fmt.Sscanf(out.Header().Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
			require.NoError(t, err)
			require.True(t, 0 <= first && first <= last && last < size && size == len(blob))
			require.Equal(t, blob[first:last+1], out.Body.String())
		case http.StatusRequestedRangeNotSatisfiable:
			require.Contains(t, out.Body.String(), "RANGE_INVALID")
		default:
			t.Fatalf("status %d for %q: %s", out.Code, ranges, out.Body)
		}
	})
}
