package filesystem_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/storage/filesystem"
)

// Whatever ranges a client asks for: it gets the whole blob, exactly what the answer says that it is, or nothing; and
// never more bytes of the blob than there are.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{"", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=2-1", "bytes=0-999999999999999999999", "bytes=0-1,3-4", "bytes=0-,0-,0-",
		"bytes=-0", "bytes=1-2, -3", "bytes=999-1000", "bytes=1000-", "bytes = 1-2", "items=0-1", "bytes=--1", "bytes=0x1-0x2", "bytes=+1-2", "bytes=,", "bytes=1-2,"} {
		f.Add(seed, "")
	}
	blob := make([]byte, 1000)
	for i := range blob {
		blob[i] = byte(i % 251)
	}
	d, err := filesystem.New(filesystem.Options{Root: f.TempDir(), PublicURL: "http://hold", URLKey: bytes.Repeat([]byte{7}, 32)})
	require.NoError(f, err)
	f.Add("bytes=1-2", `"`+digest.FromBytes(blob).String()+`"`)
	f.Add("bytes=1-2", `"another"`)
	mux := http.NewServeMux()
	for pattern, h := range d.Routes() {
		mux.Handle(pattern, h)
	}
	at := func(blob []byte) string {
		dg, id := digest.FromBytes(blob), storage.NewUploadID()
		require.NoError(f, d.Begin(f.Context(), id, digest.SHA256))
		part, err := d.PartURL(f.Context(), id, 1)
		require.NoError(f, err)
		put := httptest.NewRecorder()
		mux.ServeHTTP(put, httptest.NewRequest(http.MethodPut, part.URL, bytes.NewReader(blob)))
		require.Equal(f, http.StatusOK, put.Code, "%s", put.Body)
		_, err = d.Complete(f.Context(), id, dg, []storage.Part{{Number: 1, ETag: put.Header().Get("ETag")}})
		require.NoError(f, err)
		u, err := d.BlobURL(f.Context(), dg, http.MethodGet)
		require.NoError(f, err)
		return u.URL
	}
	whole, empty := at(blob), at(nil)

	f.Fuzz(func(t *testing.T, ranges, ifRange string) {
		answer(t, mux, empty, nil, ranges, ifRange)
		answer(t, mux, whole, blob, ranges, ifRange)
	})
}

func answer(t *testing.T, h http.Handler, url string, blob []byte, ranges, ifRange string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, url, nil)
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	if ifRange != "" {
		req.Header.Set("If-Range", ifRange)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	switch w.Code {
	case http.StatusOK:
		require.True(t, bytes.Equal(blob, w.Body.Bytes()))
	case http.StatusRequestedRangeNotSatisfiable:
		require.Less(t, w.Body.Len(), 200)
	case http.StatusPartialContent:
		kind, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
		require.NoError(t, err)
		if kind != "multipart/byteranges" {
			require.True(t, bytes.Equal(span(t, blob, w.Header().Get("Content-Range")), w.Body.Bytes()))
			return
		}
		parts, total := multipart.NewReader(w.Body, params["boundary"]), 0
		for {
			p, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			b, err := io.ReadAll(p)
			require.NoError(t, err)
			require.True(t, bytes.Equal(span(t, blob, p.Header.Get("Content-Range")), b))
			total += len(b)
		}
		require.LessOrEqual(t, total, len(blob), "ranges that overlap multiply nothing")
	default:
		t.Fatalf("status %d for %q", w.Code, ranges)
	}
}

// span is what a Content-Range says.
func span(t *testing.T, blob []byte, contentRange string) []byte {
	t.Helper()
	var first, last, size int
	_, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &first, &last, &size)
	require.NoError(t, err, contentRange)
	require.Equal(t, len(blob), size)
	require.True(t, 0 <= first && first <= last && last < size, contentRange)
	return blob[first : last+1]
}
