package auth_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/alias"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/session"
	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/seal"
)

const service = "registry.test"

// registry is the token endpoint of one replica, wired as the server wires it.
type registry struct {
	*httptest.Server
	verifier *auth.Verifier
	sessions *session.Manager
	dir      *atproto.Directory
	db       *store.DB
}

type world struct {
	net   *devnet.Net
	down  atomic.Bool  // the PDS answers 503
	limit atomic.Bool  // the PDS answers 429
	ahead atomic.Int64 // of the clocks of our replicas, in nanoseconds
	db    string
	key   seal.Key
	keys  *auth.Keys
	alice devnet.AccountInfo
}

func newWorld(t *testing.T, cfg devnet.Config) *world {
	t.Helper()
	w := &world{db: filepath.Join(t.TempDir(), "ui.db")}
	cfg.Accounts = []devnet.Account{{Handle: "alice.test"}, {Handle: "bob.test"}}
	cfg.Wrap = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if w.down.Load() {
				http.Error(rw, `{"error":"Down","message":"s3cret"}`, http.StatusServiceUnavailable)
				return
			}
			if w.limit.Load() && strings.HasPrefix(r.URL.Path, "/xrpc/com.atproto.server.") {
				rw.Header().Set("Retry-After", "77")
				http.Error(rw, `{"error":"RateLimitExceeded","message":"s3cret"}`, http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}
	var err error
	w.net, err = devnet.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { w.net.Close() })
	w.alice = w.net.Account("alice.test")
	w.key, _ = seal.Generate()
	dir := t.TempDir()
	w.keys, err = auth.OpenKeys(auth.KeyFiles{KeyPath: filepath.Join(dir, "private-key.pem"), CertPath: filepath.Join(dir, "private-key.crt"), Service: service}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return w
}

func (w *world) replica(t *testing.T, change ...func(*auth.Handler)) *registry {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	policy := diddoc.Policy{DevLoopback: true}
	db, err := store.Open(t.Context(), store.Options{Path: w.db, Logger: log})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	guarded := diddoc.NewClient(policy, diddoc.Options{})
	dir := atproto.NewDirectory(atproto.DirectoryConfig{PLCURL: w.net.URL(), HandleResolverURL: w.net.URL(), Operator: guarded, Guarded: guarded, Logger: log})
	m := session.NewManager(session.Config{Store: db, Key: w.key, Directory: dir, Client: guarded, Logger: log, Now: w.now})
	h := &auth.Handler{
		Issuer:    &auth.Issuer{Keys: w.keys, Service: service, Life: 5 * time.Minute, Now: w.now},
		Directory: dir, Passwords: m, Refresh: &auth.RefreshTokens{Store: db, Now: w.now}, Logger: log,
	}
	for _, c := range change {
		c(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &registry{s, auth.NewVerifier(w.keys, service, w.now), m, dir, db}
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

type answer struct {
	status  int
	header  http.Header
	raw     string
	Token   string `json:"token"`
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Expires int    `json:"expires_in"`
	Issued  string `json:"issued_at"`
	Scope   string `json:"scope"`
	OAuth   string `json:"error"`
	Errors  []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
}

func (r *registry) do(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(b)}
	require.NoError(t, json.Unmarshal(b, &a), string(b))
	return a
}

func (r *registry) token(t *testing.T, user, password string, scopes ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+auth.TokenPath+"?"+url.Values{"service": {service}, "scope": scopes}.Encode(), nil)
	require.NoError(t, err)
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	return r.do(t, req)
}

func (r *registry) claims(t *testing.T, a answer) *auth.Claims {
	t.Helper()
	require.Equal(t, http.StatusOK, a.status, a.raw)
	c, err := r.verifier.Verify(a.Token)
	require.NoError(t, err)
	return c
}

func TestAThousandTokenRequestsLogInOnce(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	replicas := []*registry{w.replica(t), w.replica(t)}
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range 50 {
		wg.Go(func() {
			for range 20 {
				if a := replicas[i%2].token(t, "alice.test", w.alice.AppPassword, "repository:alice.test/app:pull,push"); a.status != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, failed.Load())
	require.Equal(t, 1, w.net.Count("createSession"))
	require.Equal(t, 1, w.replica(t).login(t, w), "a replica that starts later shares the session")
}

func (r *registry) login(t *testing.T, w *world) int {
	t.Helper()
	require.Equal(t, http.StatusOK, r.token(t, "alice.test", w.alice.AppPassword).status)
	return w.net.Count("createSession")
}

func TestOnlyTheOwnerMayPush(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	r := w.replica(t)
	didAlias, err := alias.Encode(w.alice.DID)
	require.NoError(t, err)
	all := []string{
		"repository:alice.test/app:pull,push", "repository:" + didAlias + "/app:pull,push,delete repository:bob.test/app:pull,push",
		"repository:library/app:pull", "registry:catalog:*", "nonsense",
	}

	c := r.claims(t, r.token(t, "alice.test", w.alice.AppPassword, all...))
	require.Equal(t, string(w.alice.DID), c.Subject)
	require.Equal(t, auth.MethodAppPassword, c.AuthMethod)
	require.True(t, c.Allows("alice.test/app", auth.Push))
	require.True(t, c.Allows(didAlias+"/app", auth.Delete))
	require.False(t, c.Allows("alice.test/app", auth.Delete), "nobody asked for it")
	require.True(t, c.Allows("bob.test/app", auth.Pull))
	require.False(t, c.Allows("bob.test/app", auth.Push))
	require.False(t, c.Allows("library/app", auth.Pull))
	require.True(t, c.AllowsOn("registry", "catalog", "*"))

	anonymous := r.claims(t, r.token(t, "", "", all...))
	require.True(t, anonymous.Anonymous())
	require.True(t, anonymous.Allows("alice.test/app", auth.Pull))
	require.False(t, anonymous.Allows("alice.test/app", auth.Push))
	require.False(t, anonymous.AllowsOn("registry", "catalog", "*"))

	for _, user := range []string{string(w.alice.DID), didAlias, "@Alice.test"} {
		require.Equal(t, string(w.alice.DID), r.claims(t, r.token(t, user, w.alice.AppPassword)).Subject, user)
	}
	require.Equal(t, 1, w.net.Count("createSession"), "one user under four names is one session")
}

const form = "application/x-www-form-urlencoded"

func (r *registry) post(t *testing.T, contentType, query string, f url.Values) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+auth.TokenPath+query, strings.NewReader(f.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", contentType)
	return r.do(t, req)
}

func TestThePostFormOfTokenRequests(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	r := w.replica(t)
	good := url.Values{"grant_type": {"password"}, "service": {service}, "client_id": {"containerd-client"}, "username": {"alice.test"},
		"password": {w.alice.AppPassword}, "scope": {"repository:alice.test/app:pull,push repository:bob.test/app:pull", "repository:alice.test/two:pull"}}
	a := r.post(t, form, "", good)
	c := r.claims(t, a)
	require.True(t, c.Allows("alice.test/app", auth.Push) && c.Allows("bob.test/app", auth.Pull) && c.Allows("alice.test/two", auth.Pull))
	require.Equal(t, a.Token, a.Access, "both names for clients of both forms")
	require.Equal(t, 300, a.Expires)
	issued, err := time.Parse(time.RFC3339, a.Issued)
	require.NoError(t, err)
	require.WithinDuration(t, c.IssuedAt.Time(), issued, 0)
	require.Equal(t, "repository:alice.test/app:pull,push repository:bob.test/app:pull repository:alice.test/two:pull", a.Scope)
	require.Empty(t, a.Refresh, "nobody asked for one")

	require.Equal(t, http.StatusBadRequest, r.post(t, form, "", url.Values{"grant_type": {"client_credentials"}}).status)
	require.Equal(t, http.StatusBadRequest, r.post(t, "application/json", "", good).status)
	require.Equal(t, http.StatusBadRequest, r.post(t, form, "?"+good.Encode(), nil).status, "credentials in a URL do not count")
	wrong := url.Values{"grant_type": {"password"}, "username": {"alice.test"}, "password": {""}}
	a = r.post(t, form, "", wrong)
	require.Equal(t, http.StatusUnauthorized, a.status)
	require.Equal(t, "invalid_grant", a.OAuth)
}

func TestBadRequestsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	r := w.replica(t)
	get := func(query, authorization string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+auth.TokenPath+query, nil)
		require.NoError(t, err)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		return r.do(t, req)
	}
	check := func(a answer, status int, code string, says ...string) {
		t.Helper()
		require.Equal(t, status, a.status, a.raw)
		require.Len(t, a.Errors, 1)
		require.Equal(t, code, a.Errors[0].Code)
		for _, s := range says {
			require.Contains(t, a.Errors[0].Message, s)
		}
		require.NotContains(t, a.raw, "s3cret")
		require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	}
	check(r.token(t, "nobody.test", "x"), 401, "UNAUTHORIZED", "no account nobody.test", "spelling")
	check(r.token(t, "library", "x"), 401, "UNAUTHORIZED", "neither a handle nor a DID")
	check(r.token(t, "alice.test", "wrong-s3cret"), 401, "UNAUTHORIZED", "refused the app password", "new app password")
	check(r.token(t, "alice.test", ""), 401, "UNAUTHORIZED")
	check(get("?service=other", ""), 400, "UNSUPPORTED", service)
	check(get("?account=bob.test", "Basic YWxpY2UudGVzdDp4"), 400, "UNSUPPORTED", "account")
	check(get("", "Basic !!"), 401, "UNAUTHORIZED", "Basic")
	check(get("", "Bearer x"), 401, "UNAUTHORIZED", "Basic")
	check(r.post(t, form, "", url.Values{"grant_type": {"refresh_token"}}), 400, "UNSUPPORTED", "no refresh_token", "log in")

	w.limit.Store(true)
	limited := r.token(t, "alice.test", w.alice.AppPassword)
	check(limited, 429, "TOOMANYREQUESTS", "Wait")
	require.Equal(t, "77", limited.header.Get("Retry-After"), "as long as the PDS says")
	w.limit.Store(false)

	require.Equal(t, http.StatusOK, r.token(t, "bob.test", w.net.Account("bob.test").AppPassword).status)
	w.down.Store(true)
	a := r.token(t, "alice.test", w.alice.AppPassword)
	check(a, 503, "UNAVAILABLE", "could not be reached", "Try again")
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, r.token(t, "bob.test", w.net.Account("bob.test").AppPassword).status, "who logged in before is not hurt by an outage")
	require.Equal(t, http.StatusOK, r.token(t, "", "", "repository:alice.test/app:pull").status)
}

func TestAWrongSecretInAClusterDoesNotUseUpTheUsersLogins(t *testing.T) {
	w := newWorld(t, devnet.Config{MaxSessionsPer5Min: 30})
	r := w.replica(t)
	for range 200 {
		require.Equal(t, http.StatusUnauthorized, r.token(t, "alice.test", "wrong").status)
	}
	require.Equal(t, 1, w.net.Count("createSession"), "the same wrong password is tried once a minute")
	var limited answer
	for i := range 200 {
		if a := r.token(t, "alice.test", fmt.Sprint("wrong", i)); a.status == http.StatusTooManyRequests {
			limited = a
		}
	}
	require.LessOrEqual(t, w.net.Count("createSession"), 12, "and a guesser gets few tries")
	require.Equal(t, "TOOMANYREQUESTS", limited.Errors[0].Code)
	require.NotEmpty(t, limited.header.Get("Retry-After"))
}
