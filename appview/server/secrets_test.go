package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// overheard is everything secret that passed by.
type overheard struct {
	mu      sync.Mutex
	secrets map[string]string // to what it is
	kinds   map[string]bool
}

func (o *overheard) add(what, secret string) {
	if len(secret) < 8 {
		return // would be found by accident
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secrets[secret], o.kinds[what] = what, true
}

// listen notes the credentials, queries and tokens of requests and answers. Bodies of blobs are passed on unread.
func (o *overheard) listen(down *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
			o.add("a token", token)
			if parts := strings.Split(token, "."); len(parts) == 3 {
				o.add("a signature", parts[2])
			}
		}
		o.add("a query", r.URL.RawQuery)
		if down.Load() {
			http.Error(w, `{"error":"InternalServerError","message":"s3cret of a peer"}`, http.StatusInternalServerError)
			return
		}
		if !strings.HasPrefix(r.URL.Path, "/xrpc/com.atproto.server.") && r.URL.Path != "/xrpc/io.atcr.hold.initiateUpload" &&
			!strings.HasPrefix(r.URL.Path, "/xrpc/io.atcr.hold.getPart") {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		var out map[string]any
		if json.Unmarshal(rec.Body.Bytes(), &out) == nil {
			if part, ok := out["firstPart"].(map[string]any); ok {
				out["url"] = part["url"]
			}
			for _, name := range []string{"accessJwt", "refreshJwt", "token", "url"} {
				if s, ok := out[name].(string); ok {
					o.add("a "+name, s)
					if u, err := url.Parse(s); err == nil {
						o.add("a query", u.RawQuery)
					}
				}
			}
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestLogsOfAWholeSessionHoldNoSecret(t *testing.T) {
	var log syncBuffer
	heard := &overheard{secrets: map[string]string{"s3cret of a peer": "a peer's message"}, kinds: map[string]bool{}}
	var pdsDown, holdDown atomic.Bool
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	before := slog.Default()
	slog.SetDefault(logger)
	t.Cleanup(func() { slog.SetDefault(before) })
	w := servertest.Start(t, servertest.Options{Log: logger,
		WrapPDS:  func(next http.Handler) http.Handler { return heard.listen(&pdsDown, next) },
		WrapHold: func(next http.Handler) http.Handler { return heard.listen(&holdDown, next) },
	})
	for _, who := range []string{servertest.Alice, servertest.Bob} {
		heard.add("a password", w.Account(who).Password)
		heard.add("an app password", w.Account(who).AppPassword)
	}
	img, err := random.Image(100_000, 2)
	require.NoError(t, err)
	ref := w.Host() + "/" + app + ":v1"
	session := func() {
		_ = crane.Push(img, ref, crane.WithAuth(w.Auth(servertest.Alice))) // may fail: a peer may be down
		if got, err := crane.Pull(ref, crane.WithAuth(w.Auth(servertest.Bob))); err == nil {
			_ = drain(got)
		}
		const wrong = "wrong-password-of-alice"
		heard.add("a wrong password", wrong)
		_, err := crane.Manifest(ref, crane.WithAuth(&authn.Basic{Username: servertest.Alice, Password: wrong}))
		require.Error(t, err)

		form := url.Values{"grant_type": {"password"}, "access_type": {"offline"}, "username": {servertest.Alice}, "password": {w.Account(servertest.Alice).AppPassword}}
		heard.add("a form", form.Encode())
		if a := tokenForm(t, w, form); a.Refresh != "" {
			heard.add("a refresh token", a.Refresh)
			heard.add("a registry token", tokenForm(t, w, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.Refresh}}).Token)
		}
		forged := "eyJhbGciOiJub25lIn0.e30.forged-signature"
		heard.add("a forged token", forged)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/v2/"+app+"/manifests/v1?query-of-a-client=1", nil)
		require.NoError(t, err)
		heard.add("a query", req.URL.RawQuery)
		req.Header.Set("Authorization", "Bearer "+forged)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	}
	session()
	require.Contains(t, log.String(), "/v2/"+app+"/manifests/v1", "there is a log")
	holdDown.Store(true)
	img, err = random.Image(1000, 1) // one that is not there yet
	require.NoError(t, err)
	session()
	holdDown.Store(false)
	pdsDown.Store(true)
	session()
	require.NoError(t, w.Close())

	heard.mu.Lock()
	defer heard.mu.Unlock()
	all := log.String()
	for secret, what := range heard.secrets {
		for _, form := range []string{secret, url.QueryEscape(secret)} {
			if i := strings.Index(all, form); i >= 0 {
				t.Errorf("%s is logged: %s", what, all[max(0, i-200):min(len(all), i+100)])
			}
		}
	}
	for _, what := range []string{"a token", "a signature", "a query", "a accessJwt", "a refreshJwt", "a url", "a refresh token", "a registry token"} {
		require.True(t, heard.kinds[what], "%s was looked for", what)
	}
	require.Contains(t, all, "level=DEBUG")
	require.Contains(t, all, "request_id=")
}

type tokenAnswer struct {
	Token   string `json:"token"`
	Refresh string `json:"refresh_token"`
}

func tokenForm(t *testing.T, w *servertest.World, form url.Values) tokenAnswer {
	t.Helper()
	resp, err := http.PostForm(w.URL+"/auth/token", form)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var a tokenAnswer
	require.NoError(t, json.Unmarshal(b, &a))
	return a
}
