package s3_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/storage/s3"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/hold/storage/storagetest"
)

func open(t *testing.T, srv *s3test.Server, change func(*s3.Options)) (*s3.Driver, string) {
	t.Helper()
	o := s3.Options{
		Endpoint: srv.Endpoint, Region: srv.Region, Bucket: srv.Bucket(t), AccessKey: srv.AccessKey, SecretKey: srv.SecretKey,
	}
	if change != nil {
		change(&o)
	}
	d, err := s3.New(o)
	require.NoError(t, err)
	return d, o.Bucket
}

func TestDriver(t *testing.T) {
	srv := s3test.Start(t)
	t.Run("limits of S3", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) storage.Driver {
			d, _ := open(t, srv, nil)
			return d
		})
	})
	// 5 GiB objects are too large for a test: with a lower limit a 12 MiB part takes the same way.
	t.Run("parts above the copy limit", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) storage.Driver {
			d, _ := open(t, srv, func(o *s3.Options) { o.Limits.MaxCopy = 10 << 20 })
			return d
		})
	})
}

func TestOnlyTheBlobIsLeftOfACompletedUpload(t *testing.T) {
	srv := s3test.Start(t)
	d, bucket := open(t, srv, nil)
	id := storagetest.Begin(t, d)
	parts := []storage.Part{storagetest.Put(t, d, id, 1, []byte("a")), storagetest.Put(t, d, id, 2, []byte("b"))}
	storagetest.Put(t, d, id, 3, []byte("surplus"))
	_, err := d.Complete(t.Context(), id, digest.FromString("ab"), parts)
	require.NoError(t, err)
	require.NoError(t, d.Abort(t.Context(), id))
	require.Equal(t, []string{storage.BlobKey(digest.FromString("ab"))}, srv.Keys(t, bucket))
}

func TestErrorsCarryNoSignatureAndNoKey(t *testing.T) {
	srv := s3test.Start(t)
	d, _ := open(t, srv, func(o *s3.Options) { o.SecretKey = "wrong-secret" })
	_, err := d.Stat(t.Context(), digest.FromString("x"))
	require.Error(t, err)
	require.NotErrorIs(t, err, storage.ErrNotFound)
	d, _ = open(t, srv, func(o *s3.Options) { o.Endpoint = "http://127.0.0.1:1" })
	checkErr := d.Check(t.Context())
	require.Error(t, checkErr)
	for _, text := range []string{err.Error(), checkErr.Error()} {
		require.NotContains(t, text, "wrong-secret")
		require.False(t, strings.Contains(text, "Signature=") || strings.Contains(text, "?"), text)
	}
}

func TestAMissingBucketIsReported(t *testing.T) {
	srv := s3test.Start(t)
	d, _ := open(t, srv, func(o *s3.Options) { o.Bucket = "there-is-none" })
	require.ErrorContains(t, d.Check(t.Context()), "create it")
}

func TestAnEndpointWithAPathIsRefused(t *testing.T) {
	_, err := s3.New(s3.Options{Endpoint: "http://127.0.0.1:1/path", Bucket: "b"})
	require.ErrorContains(t, err, "without a path")
}

// failing answers requests of one kind with an S3 error.
type failing struct {
	on     func(*http.Request) bool
	status int
	code   string
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.on == nil || !f.on(r) {
		return http.DefaultTransport.RoundTrip(r)
	}
	body := `<?xml version="1.0"?><Error><Code>` + f.code + `</Code><Message>secret detail</Message></Error>`
	return &http.Response{StatusCode: f.status, Status: http.StatusText(f.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}, nil
}

func TestWhereverTheEndpointRefusesNothingIsVisibleAndTheUploadCanBeCompletedLater(t *testing.T) {
	srv := s3test.Start(t)
	for name, on := range map[string]func(*http.Request) bool{
		"reading back": func(r *http.Request) bool {
			return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/")
		},
		"copying":                     func(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source") != "" },
		"starting a multipart upload": func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploads") },
		"ending a multipart upload":   func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") },
	} {
		t.Run(name, func(t *testing.T) {
			fault := &failing{status: http.StatusForbidden, code: "AccessDenied"}
			d, _ := open(t, srv, func(o *s3.Options) { o.Limits.MaxCopy = 10 << 20; o.Transport = fault })
			b := storagetest.Bytes(1, 12<<20)
			id := storagetest.Begin(t, d)
			p := storagetest.Put(t, d, id, 1, b)
			fault.on = on
			_, err := d.Complete(t.Context(), id, digest.FromBytes(b), []storage.Part{p})
			require.ErrorContains(t, err, "endpoint answered 403 AccessDenied")
			require.NotContains(t, err.Error(), "secret")
			fault.on = nil
			_, err = d.Stat(t.Context(), digest.FromBytes(b))
			require.ErrorIs(t, err, storage.ErrNotFound)
			_, err = d.Complete(t.Context(), id, digest.FromBytes(b), []storage.Part{p})
			require.NoError(t, err)
			n, err := d.Tidy(t.Context(), time.Now().Add(time.Hour))
			require.NoError(t, err)
			require.Zero(t, n, "no multipart upload is left open")
		})
	}
}

func TestAMultipartUploadOfAKilledCompletionIsTidiedUp(t *testing.T) {
	srv := s3test.Start(t)
	fault := &failing{status: http.StatusForbidden, code: "AccessDenied"}
	d, _ := open(t, srv, func(o *s3.Options) { o.Limits.MaxCopy = 10 << 20; o.Transport = fault })
	b := storagetest.Bytes(1, 12<<20)
	id := storagetest.Begin(t, d)
	p := storagetest.Put(t, d, id, 1, b)
	// Neither the end nor the clean-up gets through, as when the process is killed in between.
	fault.on = func(r *http.Request) bool { return r.URL.Query().Has("uploadId") && r.Method != http.MethodPut }
	_, err := d.Complete(t.Context(), id, digest.FromBytes(b), []storage.Part{p})
	require.Error(t, err)
	fault.on = nil
	n, err := d.Tidy(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Zero(t, n, "it may still be running")
	n, err = d.Tidy(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = d.Complete(t.Context(), id, digest.FromBytes(b), []storage.Part{p})
	require.NoError(t, err)
}
