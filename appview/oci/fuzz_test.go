package oci

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzIfNoneMatch(f *testing.F) {
	const etag = `"sha256:abc"`
	for _, s := range []string{"", etag, "W/" + etag, "*", etag + ", x", ",,,", `"sha256:ab`, `""`, "x," + etag} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if matches(s, etag) {
			require.True(t, strings.Contains(s, etag) || strings.Contains(s, "*"), "%q", s)
		}
	})
}

// Whatever a client sends ends up in messages only: never in a header or status, cut, and as JSON.
func FuzzErrors(f *testing.F) {
	f.Add("GET", "a/b", "sha256:x", "0-5")
	f.Add("P\r\nX: y", "a\x00", "\xff", "bytes 0-5/\n")
	f.Fuzz(func(t *testing.T, method, name, ref, rng string) {
		r := New(Config{})
		for _, err := range []error{invalidName(name), invalidDigest(ref), invalidTag(ref), unknownManifest(ref), unknownOwner(name, nil), invalidManifest(rng)} {
			if err == nil {
				continue
			}
			w := httptest.NewRecorder()
			req := httptest.NewRequest(http.MethodGet, "/v2/", nil)
			r.writeError(w, req, err)
			require.True(t, w.Code >= 400 && w.Code < 600)
			require.Less(t, w.Body.Len(), 2000+6*len(rng))
			for k, v := range w.Header() {
				require.NotContains(t, strings.Join(v, ""), "\n", k)
			}
		}
	})
}
