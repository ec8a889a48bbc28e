package s3

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	miniosigner "github.com/minio/minio-go/v7/pkg/signer"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawn is a signer and a request, of any characters.
func drawn(t *rapid.T) (s *signer, method, key string, ttl time.Duration, q url.Values) {
	text := rapid.StringN(1, 20, 40)
	name := rapid.StringMatching(`[a-z][a-z0-9-]{2,10}`)
	s = &signer{region: name.Draw(t, "region"), accessKey: rapid.StringMatching(`[A-Z0-9/+]{4,20}`).Draw(t, "access"),
		secretKey: text.Draw(t, "secret"), host: name.Draw(t, "host") + rapid.SampledFrom([]string{"", ":8333"}).Draw(t, "port")}
	s.base = rapid.SampledFrom([]string{"http://", "https://"}).Draw(t, "scheme") + s.host
	if rapid.Bool().Draw(t, "path-style") {
		s.prefix = "/" + name.Draw(t, "bucket")
	}
	if rapid.Bool().Draw(t, "temporary") {
		s.session = rapid.StringMatching(`[A-Za-z0-9+/=]{10,60}`).Draw(t, "session")
	}
	q = url.Values{}
	for range rapid.IntRange(0, 4).Draw(t, "parameters") {
		q.Set(rapid.SampledFrom([]string{"response-content-type", "versionId", "a", "a-b", "X", "x y"}).Draw(t, "name"), text.Draw(t, "value"))
	}
	method = rapid.SampledFrom([]string{"GET", "HEAD", "PUT"}).Draw(t, "method")
	key = rapid.StringMatching(`[A-Za-z0-9 !$&'()*+,=:@;~._%#?\x{e4}-]{1,20}(/[A-Za-z0-9 +%.-]{1,10}){0,3}x`).Draw(t, "key")
	ttl = time.Duration(rapid.IntRange(1, 604800).Draw(t, "ttl")) * time.Second
	return s, method, key, ttl, q
}

// unsigned is the request as the SDKs take it.
func (s *signer) unsigned(t require.TestingT, method, key string, q url.Values) *http.Request {
	req, err := http.NewRequest(method, s.base, nil)
	require.NoError(t, err)
	req.URL.Path = s.prefix + "/" + key
	req.URL.RawPath = s.prefix + "/" + escape(key, true)
	req.URL.RawQuery = q.Encode()
	return req
}

func parameters(t require.TestingT, raw string) (url.Values, string) {
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u.Query(), u.EscapedPath()
}

func TestPresignedURLsAreThoseOfTheSDKs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, method, key, ttl, q := drawn(t)
		now := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "now"), 0)
		mine := s.presign(method, key, ttl, q, now)

		req := s.unsigned(t, method, key, q)
		withTTL := req.URL.Query()
		withTTL.Set("X-Amz-Expires", strconv.Itoa(int(ttl/time.Second)))
		req.URL.RawQuery = withTTL.Encode()
		sdk := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		theirs, _, err := sdk.PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: s.accessKey, SecretAccessKey: s.secretKey, SessionToken: s.session},
			req, "UNSIGNED-PAYLOAD", "s3", s.region, now)
		require.NoError(t, err)
		want, wantPath := parameters(t, theirs)
		got, gotPath := parameters(t, mine)
		require.Equal(t, wantPath, gotPath)
		require.Equal(t, want, got)
	})
}

// minio-go signs at the time of the clock: what it signed is signed again for that time.
func TestPresignedURLsAreThoseOfMinio(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, method, key, ttl, q := drawn(t)
		theirs := miniosigner.PreSignV4(*s.unsigned(t, method, key, q), s.accessKey, s.secretKey, s.session, s.region, int64(ttl/time.Second))
		want, wantPath := parameters(t, theirs.URL.String())
		at, err := time.Parse(amzDate, want.Get("X-Amz-Date"))
		require.NoError(t, err)
		got, gotPath := parameters(t, s.presign(method, key, ttl, q, at))
		require.Equal(t, wantPath, gotPath)
		require.Equal(t, want, got)
	})
}

func TestTheBucketIsInURLsAsAddressed(t *testing.T) {
	for _, tt := range []struct {
		endpoint, bucket string
		address          Addressing
		want             string
	}{
		{"", "blobs", "", "https://blobs.s3.eu-central-1.amazonaws.com/"},
		{"", "blobs.example.com", AddressAuto, "https://s3.eu-central-1.amazonaws.com/blobs.example.com/"},
		{"", "blobs", AddressPath, "https://s3.eu-central-1.amazonaws.com/blobs/"},
		{"https://s3.example.com", "blobs", AddressAuto, "https://s3.example.com/blobs/"},
		{"https://s3.example.com:443", "blobs", AddressVirtual, "https://blobs.s3.example.com/"},
		{"http://127.0.0.1:9000", "blobs", AddressAuto, "http://127.0.0.1:9000/blobs/"},
	} {
		d, err := New(Options{Endpoint: tt.endpoint, Bucket: tt.bucket, Region: "eu-central-1", AccessKey: "a", SecretKey: "s", Session: "temporary", Address: tt.address})
		require.NoError(t, err)
		u, err := d.PartURL(t.Context(), "id", 1)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(u.URL, tt.want+"uploads/id/1?"), u.URL)
		require.Contains(t, u.URL, "X-Amz-Security-Token=temporary")
	}
}

func TestABlobsURLIsGivenOutForHalfOfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Options{Bucket: "b", AccessKey: "a", SecretKey: "s", BlobTTL: 5 * time.Minute})
		require.NoError(t, err)
		get := func(content, method string) string {
			u, err := d.BlobURL(t.Context(), digest.FromString(content), method)
			require.NoError(t, err)
			require.Greater(t, time.Until(u.Expires), 150*time.Second)
			require.LessOrEqual(t, time.Until(u.Expires), 5*time.Minute)
			return u.URL
		}
		first := get("x", http.MethodGet)
		require.NotEqual(t, first, get("x", http.MethodHead))
		require.NotEqual(t, first, get("y", http.MethodGet))
		time.Sleep(2 * time.Minute) // of the bubble's clock
		require.Equal(t, first, get("x", http.MethodGet))
		time.Sleep(31 * time.Second)
		require.NotEqual(t, first, get("x", http.MethodGet))
	})
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a/b c", "ä%2F+~", "\x00\xff", strings.Repeat("/", 3)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, path := range []bool{true, false} {
			back, err := url.PathUnescape(escape(s, path))
			if err != nil || back != s {
				t.Fatalf("%q became %q: %v", s, back, err)
			}
		}
		if strings.Contains(escape(s, false), "/") {
			t.Fatal("a slash in a query stayed")
		}
	})
}

func BenchmarkPresign(b *testing.B) {
	d, err := New(Options{Bucket: "blobs", Region: "us-east-1", AccessKey: "AKIDEXAMPLE", SecretKey: "secret"})
	require.NoError(b, err)
	key, q, now := "blobs/sha256/ab/"+strings.Repeat("ab", 32)+"/data", url.Values{"response-content-type": {"application/octet-stream"}}, time.Now()
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.signer.presign(http.MethodGet, key, 15*time.Minute, q, now)
		}
	})
	b.Run("minio-go", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := d.core.Presign(b.Context(), http.MethodGet, "blobs", key, 15*time.Minute, q)
			require.NoError(b, err)
		}
	})
	b.Run("kept", func(b *testing.B) {
		for b.Loop() {
			_, _ = d.BlobURL(b.Context(), digest.FromString("x"), http.MethodGet)
		}
	})
}
