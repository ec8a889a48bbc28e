package s3_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/storage/s3"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/hold/storage/storagetest"
)

// putWith sends a part with headers that the URL does not speak of.
func putWith(t *testing.T, d *s3.Driver, id string, b []byte, header map[string]string) (status int) {
	t.Helper()
	u, err := d.PartURL(t.Context(), id, 1)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), u.Method, u.URL, bytes.NewReader(b))
	require.NoError(t, err)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// S3 takes such headers of whoever has the URL, and keeps them in copies of the object. A blob is everybody's who has its
// digest: a Content-Encoding would have the clients of all others unpack what they are to hash.
func TestWhatIsSaidOfAPartIsNotSaidOfTheBlob(t *testing.T) {
	srv := s3test.Start(t)
	said := map[string]string{"Content-Encoding": "gzip", "Content-Disposition": `attachment; filename="x.html"`, "Content-Language": "de",
		"Cache-Control": "public, max-age=31536000", "Expires": "Thu, 01 Dec 2095 16:00:00 GMT", "Content-Type": "text/html"}
	for name, size := range map[string]int{"a small blob": 1000, "one copy": 2 << 20, "many copies": 12 << 20} {
		t.Run(name, func(t *testing.T) {
			d, _ := open(t, srv, func(o *s3.Options) { o.Limits.MaxCopy = 10 << 20 })
			b := storagetest.Bytes(1, size)
			// stored are the headers of the blob after an upload.
			stored := func(header map[string]string) http.Header {
				id := storagetest.Begin(t, d)
				require.Equal(t, http.StatusOK, putWith(t, d, id, b, header))
				_, err := d.Complete(t.Context(), id, digest.FromBytes(b), []storage.Part{{Number: 1}})
				require.NoError(t, err)
				answer, _ := storagetest.Get(t, d, digest.FromBytes(b), http.MethodHead, nil)
				require.Equal(t, http.StatusOK, answer.StatusCode)
				for name := range answer.Header {
					if name == "Date" || name == "Last-Modified" || name == "Etag" || strings.HasPrefix(name, "X-Amz-") && strings.Contains(name, "Id") {
						answer.Header.Del(name) // they differ from answer to answer
					}
				}
				return answer.Header
			}
			require.Equal(t, stored(nil), stored(said))
		})
	}
}

// Of headers that make a PUT another request, AWS wants that they are signed; this endpoint does too.
func TestThePutOfAPartIsNoOtherRequest(t *testing.T) {
	srv := s3test.Start(t)
	d, bucket := open(t, srv, nil)
	const other = "blobs/sha256/other"
	srv.Put(t, bucket, other, []byte("a blob of another member"))
	id := storagetest.Begin(t, d)
	for name, value := range map[string]string{
		"X-Amz-Copy-Source": "/" + bucket + "/" + other, "X-Amz-Acl": "public-read", "X-Amz-Grant-Read": "uri=http://acs.amazonaws.com/groups/global/AllUsers",
		"X-Amz-Meta-Name": "value", "X-Amz-Tagging": "public=yes", "X-Amz-Storage-Class": "GLACIER", "X-Amz-Website-Redirect-Location": "https://example.com",
		"X-Amz-Object-Lock-Legal-Hold": "ON",
	} {
		require.Equal(t, http.StatusForbidden, putWith(t, d, id, []byte("part"), map[string]string{name: value}), name)
	}
	require.Equal(t, []string{other}, srv.Keys(t, bucket))
}
