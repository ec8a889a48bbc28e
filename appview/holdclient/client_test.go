package holdclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/holdclient"
)

const (
	holdDID = syntax.DID("did:web:hold.example.com")
	alice   = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob     = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
)

// foreign is a hold that answers as it likes: real holds of other releases do, and no real one can be run here.
type foreign struct {
	*httptest.Server
	client *holdclient.Client
	conf   map[string]names.Hold
}

func anywhere(*url.URL) error { return nil }

type directory string

func (d directory) HoldEndpoint(context.Context, syntax.DID) (string, error) { return string(d), nil }

type tokens struct{}

func (tokens) ServiceToken(_ context.Context, user, hold syntax.DID) (string, error) {
	return "secret of " + string(user) + " for " + string(hold), nil
}

func newForeign(t *testing.T, handler http.HandlerFunc) *foreign {
	return foreignAt(t, httptest.NewServer(handler))
}

func foreignAt(t *testing.T, s *httptest.Server) *foreign {
	f := &foreign{Server: s, conf: map[string]names.Hold{}}
	t.Cleanup(f.Close)
	f.client = holdclient.New(holdclient.Config{Directory: directory(f.URL), Tokens: tokens{}, Guarded: s.Client(), Trusted: s.Client(), HandOut: anywhere,
		Configured: func(did string) (names.Hold, bool) { h, ok := f.conf[did]; return h, ok }})
	return f
}

func (f *foreign) resolve(t *testing.T) *holdclient.Hold {
	t.Helper()
	h, err := f.client.Resolve(t.Context(), holdDID)
	require.NoError(t, err)
	return h
}

func TestABlobIsFoundWhateverFormTheAnswerHas(t *testing.T) {
	blob := "the bytes"
	for name, serve := range map[string]http.HandlerFunc{
		"JSON with size": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			fmt.Fprintf(w, `{"url":"http://%s/direct","size":9}`, r.Host)
		},
		"JSON without size": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"url":"http://%s/direct"}`, r.Host)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/direct", http.StatusTemporaryRedirect)
		},
		"raw bytes": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, blob) },
		"raw bytes of a JSON blob": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, blob)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForeign(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/direct" {
					_, _ = io.WriteString(w, blob)
					return
				}
				require.Equal(t, string(alice), r.URL.Query().Get("did"))
				serve(w, r)
			})
			h, d := f.resolve(t), digest.FromString(blob)
			loc, err := f.client.Locate(t.Context(), h, alice, "", d, http.MethodGet)
			require.NoError(t, err)
			resp, err := f.client.Open(t.Context(), h, loc, nil)
			require.NoError(t, err)
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, blob, string(got))
			size, err := f.client.Stat(t.Context(), h, alice, "", d)
			require.NoError(t, err)
			require.EqualValues(t, len(blob), size)
		})
	}
}

func TestAHoldThatNeedsNoLoginLearnsNothingAboutTheReader(t *testing.T) {
	public := true
	var seen []string
	f := newForeign(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		if !public && r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "x")
	})
	h := f.resolve(t)
	_, err := f.client.Locate(t.Context(), h, alice, bob, digest.FromString("1"), http.MethodGet)
	require.NoError(t, err)
	require.Equal(t, []string{""}, seen)
	public = false
	_, err = f.client.Locate(t.Context(), h, alice, bob, digest.FromString("2"), http.MethodGet)
	require.NoError(t, err)
	require.Equal(t, []string{"", "", "Bearer secret of " + string(bob) + " for " + string(holdDID)}, seen)
}

func TestFailuresSayWhatHappensNextAndKeepSecrets(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   holdclient.Kind
	}{
		{401, `{"error":"AuthRequired"}`, holdclient.NeedsLogin},
		{403, `no`, holdclient.Refused},
		{404, `{"error":"BlobNotFound"}`, holdclient.NotFound},
		{400, `{"error":"InvalidDigest"}`, holdclient.InvalidDigest},
		{400, `{"error":"InvalidUploadId"}`, holdclient.InvalidUpload},
		{403, `{"error":"QuotaExceeded"}`, holdclient.QuotaExceeded},
		{429, ``, holdclient.RateLimited},
		{502, `<html>`, holdclient.Unavailable},
		{418, ``, holdclient.Misconfigured},
		{200, `not json`, holdclient.Misconfigured},
		{302, ``, holdclient.Misconfigured},
	} {
		f := newForeign(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		_, err := f.client.Initiate(t.Context(), f.resolve(t), alice, digest.FromString("x"))
		kind, ok := holdclient.KindOf(err)
		require.True(t, ok)
		require.Equal(t, c.want, kind, "%d %s", c.status, c.body)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "not json")
		var e *holdclient.Error
		if errors.As(err, &e) && c.status == 429 {
			require.Equal(t, 7*time.Second, e.RetryAfter)
		}
	}
	f := newForeign(t, nil)
	h := f.resolve(t)
	f.Close()
	_, err := f.client.Locate(t.Context(), h, alice, "", digest.FromString("x"), http.MethodGet)
	kind, _ := holdclient.KindOf(err)
	require.Equal(t, holdclient.Unavailable, kind)
	require.NotContains(t, err.Error(), "cid=", "no query in an error")
}

func TestAConfiguredEndpointMustNameTheSameHold(t *testing.T) {
	document := `{"id":"did:web:other.example.com"}`
	f := newForeign(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/did.json" {
			_, _ = io.WriteString(w, document)
			return
		}
		require.Equal(t, "hold.example.com", r.Host, "URLs on the declared host are dialled at the configured endpoint")
		_, _ = io.WriteString(w, "x")
	})
	f.conf[string(holdDID)] = names.Hold{DID: string(holdDID), Endpoint: f.URL, Download: names.Proxy}
	_, err := f.client.Resolve(t.Context(), holdDID)
	kind, _ := holdclient.KindOf(err)
	require.Equal(t, holdclient.Misconfigured, kind)

	// Another configuration is another hold: the failure is not remembered for it.
	document = `{"id":"` + string(holdDID) + `","service":[{"id":"#atcr_hold","type":"AtcrHoldService","serviceEndpoint":"https://hold.example.com"}]}`
	f.conf[string(holdDID)] = names.Hold{DID: string(holdDID), Endpoint: strings.Replace(f.URL, "127.0.0.1", "localhost", 1), Download: names.Proxy}
	h := f.resolve(t)
	require.Equal(t, "https://hold.example.com", h.Declared)
	require.Equal(t, names.Proxy, h.Download)
	resp, err := f.client.Open(t.Context(), h, holdclient.Location{URL: "https://hold.example.com/blob?sig=1"}, nil)
	require.NoError(t, err)
	resp.Body.Close()
}

func TestURLsThatAreNotForHTTPAreRefused(t *testing.T) {
	for _, bad := range []string{"file:///etc/passwd", "gopher://x/", "//x/y", "http://user:pw@x/", ":", ""} {
		f := newForeign(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"url":%q,"size":1}`, bad)
		})
		h := f.resolve(t)
		loc, err := f.client.Locate(t.Context(), h, alice, "", digest.FromString("x"), http.MethodGet)
		if err == nil { // an empty url is no url: the answer counts as the blob itself
			require.Empty(t, bad)
			require.True(t, strings.HasPrefix(loc.URL, f.URL))
			continue
		}
		kind, _ := holdclient.KindOf(err)
		require.Equal(t, holdclient.Misconfigured, kind, bad)
	}
}

func TestNobodyIsSentFromAStrangersHoldToPlainHTTP(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"in JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"url":"http://169.254.169.254/latest/meta-data/","size":1}`)
		},
		"by a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
		},
		"to no web address": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		},
	} {
		s := httptest.NewTLSServer(answer)
		t.Cleanup(s.Close)
		client := holdclient.New(holdclient.Config{Directory: directory(s.URL), Tokens: tokens{}, Guarded: s.Client(), Trusted: s.Client(), HandOut: anywhere,
			Configured: func(string) (names.Hold, bool) { return names.Hold{}, false }})
		h, err := client.Resolve(t.Context(), holdDID)
		require.NoError(t, err)
		_, err = client.Locate(t.Context(), h, alice, "", digest.FromString("x"), http.MethodGet)
		kind, _ := holdclient.KindOf(err)
		require.Equal(t, holdclient.Misconfigured, kind, "%s: %v", name, err)
	}
}

func TestWhoIsNoCrewAnyMoreAsksToBeTakenInAgain(t *testing.T) {
	var asked int
	f := newForeign(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "requestCrew") {
			asked++
			_, _ = io.WriteString(w, `{}`)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	})
	h := f.resolve(t)
	for range 2 {
		require.NoError(t, f.client.EnsureCrew(t.Context(), h, alice))
		require.NoError(t, f.client.EnsureCrew(t.Context(), h, alice), "remembered")
		_, err := f.client.Initiate(t.Context(), h, alice, digest.FromString("x"))
		kind, _ := holdclient.KindOf(err)
		require.Equal(t, holdclient.Refused, kind)
	}
	require.Equal(t, 2, asked)
}

// Nobody else would notice: while a body is not read, net/http does not see that its client has left.
func TestAHoldThatTakesNoMoreBytesIsGivenUp(t *testing.T) {
	for name, answersFirst := range map[string]bool{"and says nothing": false, "and has answered": true} {
		release := make(chan struct{})
		var f *foreign
		f = newForeign(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				fmt.Fprintf(w, `{"url":"%s/part"}`, f.URL)
				return
			}
			if answersFirst {
				_ = http.NewResponseController(w).EnableFullDuplex()
				w.Header().Set("ETag", "early")
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
			}
			<-release
		})
		t.Cleanup(func() { close(release) })
		f.client.WithPartIdle(100 * time.Millisecond)
		_, err := f.client.PutPart(t.Context(), f.resolve(t), alice, "u", 1, endless{}, 1<<40)
		kind, ok := holdclient.KindOf(err)
		require.True(t, ok, "%s: %v", name, err)
		require.Equal(t, holdclient.Unavailable, kind, name)
	}
}

// A hold that refuses a body may go on reading it, so that its answer is not lost.
func TestARefusalIsHeardWhileTheHoldReadsOn(t *testing.T) {
	const most = 1 << 30 // bytes of the body, which would all be read
	handler := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "getPartUploadUrl") {
			scheme := "http"
			if r.TLS != nil {
				scheme = "https"
			}
			fmt.Fprintf(w, `{"url":"%s://%s/part"}`, scheme, r.Host)
			return
		}
		answer := http.NewResponseController(w)
		_ = answer.EnableFullDuplex() // as HTTP/2 always is
		w.WriteHeader(http.StatusInsufficientStorage)
		_, _ = io.WriteString(w, `{"error":"StorageFull"}`)
		_ = answer.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	}
	second := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	second.EnableHTTP2 = true
	second.StartTLS()
	for protocol, f := range map[string]*foreign{"HTTP/1.1": newForeign(t, handler), "HTTP/2": foreignAt(t, second)} {
		f.conf[string(holdDID)] = names.Hold{} // at the endpoint that its DID names
		h := f.resolve(t)
		for name, send := range map[string]func(io.Reader) error{
			"a part": func(body io.Reader) error {
				_, err := f.client.PutPart(t.Context(), h, alice, "u", 1, body, most)
				return err
			},
			"a whole blob": func(body io.Reader) error {
				return f.client.PutWhole(t.Context(), h, alice, digest.FromString("x"), body, most)
			},
		} {
			body := &io.LimitedReader{R: endless{}, N: most}
			kind, _ := holdclient.KindOf(send(body))
			require.Equal(t, holdclient.StorageFull, kind, "%s: %s", protocol, name)
			require.NotZero(t, body.N, "%s: %s is not sent to its end", protocol, name)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestASlowClientDoesNotMakeTheHoldLookStalled(t *testing.T) {
	var f *foreign
	f = newForeign(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			fmt.Fprintf(w, `{"url":"%s/part"}`, f.URL)
			return
		}
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("ETag", string(b))
	})
	const idle = 2 * time.Second // longer than a busy machine takes to connect and to answer
	f.client.WithPartIdle(idle)
	r, client := io.Pipe()
	go func() {
		<-time.After(idle + idle/4) // the client is slower than a hold may be
		_, _ = io.WriteString(client, "late")
		client.Close()
	}()
	part, err := f.client.PutPart(t.Context(), f.resolve(t), alice, "u", 1, r, -1)
	require.NoError(t, err)
	require.Equal(t, "late", part.ETag)
}
