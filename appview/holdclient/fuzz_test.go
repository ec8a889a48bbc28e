package holdclient_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/holdclient"
)

// answers is a transport that answers every request alike, and remembers where they went.
type answers struct {
	status      int
	contentType string
	location    string
	body        []byte
	hosts       []string
	authorized  []string
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	a.hosts = append(a.hosts, r.URL.Host)
	if r.Header.Get("Authorization") != "" {
		a.authorized = append(a.authorized, r.URL.Host)
	}
	h := http.Header{"Content-Type": {a.contentType}, "Etag": {"e"}}
	if a.location != "" {
		h.Set("Location", a.location)
	}
	return &http.Response{StatusCode: a.status, Header: h, Body: io.NopCloser(bytes.NewReader(a.body)), Request: r, ContentLength: int64(len(a.body))}, nil
}

// A hold may be anybody's, and answer anything.
func FuzzHoldAnswers(f *testing.F) {
	f.Add(200, "application/json", "", []byte(`{"url":"https://s3.example.com/x?sig=1","size":5,"uploadId":"u","partSize":8388608}`))
	f.Add(200, "application/json", "", []byte(`{"url":"https://169.254.169.254/","size":-5,"uploadId":"u","partSize":-1,"streaming":true,"headers":{"Authorization":"x","Host":"y","a b":"c"}}`))
	f.Add(307, "text/html", "http://127.0.0.1/", []byte(`<html>`))
	f.Add(307, "", "//evil.example.com", []byte{})
	f.Add(307, "", "https://s3.example.com/%zz?sig=secret-of-the-hold", []byte{})
	f.Add(200, "application/json; x", "", []byte(`{"url":"https://u:p@x/","headers":{"x":"a\r\nb: c"},"digest":"other"}`))
	f.Add(403, "application/json", "", []byte(`{"error":"QuotaExceeded","message":"secret-of-the-hold"}`))
	f.Add(429, "", "", []byte(`{"error":7}`))
	f.Add(400, "", "", []byte(`{"error":"secret-of-the-hold"}`))
	f.Add(400, "", "", []byte(`{"error":"a\nlevel=ERROR"}`))
	f.Add(200, "", "", []byte(`{"uri":"at://x","value":{"$type":"io.atcr.hold.captain","owner":"did:plc:x","successor":"did:web:next.example.com"}}`))
	f.Add(200, "", "", []byte(`{"value":{"successor":{"a":1},"owner":[]}}`))
	f.Fuzz(func(t *testing.T, status int, contentType, location string, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		transport := &answers{status: status, contentType: contentType, location: location, body: append(body, "secret-of-the-hold"[:0]...)}
		client := &http.Client{Transport: transport}
		c := holdclient.New(holdclient.Config{Directory: directory("https://hold.example.com"), Tokens: tokens{}, Guarded: client, Trusted: client,
			HandOut: diddoc.Policy{}.CheckURL, Configured: func(string) (names.Hold, bool) { return names.Hold{}, false }})
		h, err := c.Resolve(t.Context(), holdDID)
		require.NoError(t, err)
		d := digest.FromString("x")
		check := func(err error) {
			if err != nil {
				require.NotContains(t, err.Error(), "secret-of-the-hold")
				require.NotContains(t, err.Error(), "\n", "a line of the log is one")
				require.Less(t, len(err.Error()), 1000+len(location)+len(contentType))
			}
		}
		loc, err := c.Locate(t.Context(), h, alice, bob, d, http.MethodGet)
		check(err)
		if err == nil {
			u, err := url.Parse(loc.URL)
			require.NoError(t, err)
			require.Equal(t, "https", u.Scheme)
			require.NoError(t, diddoc.Policy{}.CheckURL(u), "a client would be sent to %s", u)
			require.GreaterOrEqual(t, loc.Size, int64(-1))
		}
		size, err := c.Stat(t.Context(), h, alice, bob, d)
		check(err)
		require.True(t, err != nil || size >= 0, "a size of %d", size)
		up, err := c.Initiate(t.Context(), h, alice, d)
		check(err)
		if err == nil {
			require.True(t, up.PartSize > 0 && up.PartSize <= 64<<20 && up.ID != "", "%+v", up)
		}
		_, err = c.PutPart(t.Context(), h, alice, "u", 1, strings.NewReader("part"), 4)
		check(err)
		check(c.Complete(t.Context(), h, alice, "u", d, nil))
		check(c.Abort(t.Context(), h, alice, "u"))
		check(c.EnsureCrew(t.Context(), h, alice))
		line := c.Lineage(t.Context(), holdDID) // by the captain record
		require.Equal(t, holdDID, line[0])
		require.LessOrEqual(t, len(line), 6)
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(line))), len(line), "nobody succeeds itself")
		for _, host := range transport.authorized {
			require.Equal(t, "hold.example.com", host, "a token went to another host")
		}
	})
}
