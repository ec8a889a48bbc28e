package devnet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atclient"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/devnet/devnettest"
)

func start(t *testing.T, cfg devnet.Config) *devnet.Net {
	t.Helper()
	if cfg.Accounts == nil {
		cfg.Accounts = []devnet.Account{{Handle: "alice.test"}, {Handle: "bob.test"}}
	}
	n, err := devnet.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func call(t *testing.T, n *devnet.Net, method, token string, input any) (int, map[string]any, http.Header) {
	t.Helper()
	verb, body := http.MethodGet, io.Reader(http.NoBody)
	if input != nil {
		raw, err := json.Marshal(input)
		require.NoError(t, err)
		verb, body = http.MethodPost, bytes.NewReader(raw)
	}
	if strings.HasSuffix(method, "refreshSession") {
		verb = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), verb, n.URL()+"/xrpc/"+method, body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	out := map[string]any{}
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	_ = json.Unmarshal(raw, &out) // some answers have no body
	return res.StatusCode, out, res.Header
}

func login(t *testing.T, n *devnet.Net, handle, password string) (access, refresh string) {
	t.Helper()
	status, out, _ := call(t, n, "com.atproto.server.createSession", "", map[string]string{"identifier": handle, "password": password})
	require.Equal(t, http.StatusOK, status, out)
	return out["accessJwt"].(string), out["refreshJwt"].(string)
}

// The same suite runs against the reference PDS in test/peers.
func TestContract(t *testing.T) {
	n := start(t, devnet.Config{})
	alice := n.Account("alice.test")
	devnettest.Contract(t, devnettest.Target{URL: n.URL(), PLCURL: n.URL(), Handle: "alice.test", Password: alice.Password})
}

func TestItRefusesToBeReachedByOthers(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
		_, err := devnet.Start(t.Context(), devnet.Config{Addr: addr})
		require.ErrorIs(t, err, devnet.ErrNotLoopback, addr)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	_, err := devnet.Start(t.Context(), devnet.Config{Addr: "192.0.2.1:0"})
	require.Error(t, err, "an address that this machine does not have")
	require.NotErrorIs(t, err, devnet.ErrNotLoopback, "a pod has no other address than its own")
}

func TestAccountsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	cfg := devnet.Config{Dir: dir, Accounts: []devnet.Account{{Handle: "alice.test", AppPassword: "aaaa-bbbb-cccc-dddd"}, {Handle: "bob.test"}}}
	first, err := devnet.Start(t.Context(), cfg)
	require.NoError(t, err)
	before := first.Accounts()
	require.Equal(t, "aaaa-bbbb-cccc-dddd", before[0].AppPassword)
	require.Regexp(t, `^[a-z2-7]{4}(-[a-z2-7]{4}){3}$`, before[1].AppPassword)
	require.NoError(t, first.Close())

	second := start(t, cfg)
	require.Equal(t, before, second.Accounts())
	login(t, second, "bob.test", before[1].AppPassword)
	// The port is another one, and the DID document says so.
	dir2 := identity.BaseDirectory{PLCURL: second.URL()}
	ident, err := dir2.ResolveDID(t.Context(), before[0].DID)
	require.NoError(t, err)
	require.Equal(t, second.URL(), ident.Service[0].ServiceEndpoint)
}

func TestTheClientLibraryLogsInAndWrites(t *testing.T) {
	n := start(t, devnet.Config{})
	alice := n.Account("alice.test")
	client, err := atclient.LoginWithPasswordHost(t.Context(), n.URL(), "alice.test", alice.AppPassword, "", nil)
	require.NoError(t, err)
	var out struct{ URI, CID string }
	err = client.Post(t.Context(), syntax.NSID("com.atproto.repo.createRecord"), map[string]any{
		"repo": alice.DID, "collection": "io.atcr.tag", "record": map[string]any{"tag": "latest"},
	}, &out)
	require.NoError(t, err)
	require.Contains(t, out.URI, alice.DID)
}

func TestAUsedRefreshTokenIsRefusedAfterTheGracePeriod(t *testing.T) {
	n := start(t, devnet.Config{RefreshGrace: time.Millisecond})
	_, refresh := login(t, n, "alice.test", n.Account("alice.test").AppPassword)
	status, _, _ := call(t, n, "com.atproto.server.refreshSession", refresh, nil)
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool {
		status, out, _ := call(t, n, "com.atproto.server.refreshSession", refresh, nil)
		return status == http.StatusBadRequest && out["error"] == "ExpiredToken"
	}, time.Minute, 5*time.Millisecond)
}

func TestAnAccessTokenExpires(t *testing.T) {
	n := start(t, devnet.Config{AccessTTL: time.Second})
	access, _ := login(t, n, "alice.test", n.Account("alice.test").AppPassword)
	require.Eventually(t, func() bool {
		status, out, _ := call(t, n, "com.atproto.server.getSession", access, nil)
		return status == http.StatusBadRequest && out["error"] == "ExpiredToken"
	}, time.Minute, 50*time.Millisecond)
}

func TestSessionsAreCountedAndLimited(t *testing.T) {
	n := start(t, devnet.Config{MaxSessionsPer5Min: 3})
	input := map[string]string{"identifier": "alice.test", "password": n.Account("alice.test").AppPassword}
	for range 3 {
		login(t, n, "alice.test", input["password"])
	}
	status, out, header := call(t, n, "com.atproto.server.createSession", "", input)
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, "RateLimitExceeded", out["error"])
	require.NotEmpty(t, header.Get("Retry-After"))
	require.Equal(t, "0", header.Get("RateLimit-Remaining"))
	login(t, n, "bob.test", n.Account("bob.test").AppPassword) // each account has its own limit
	require.Equal(t, 5, n.Count("createSession"))
}

func TestATestCanInjectFailures(t *testing.T) {
	var down atomic.Bool
	n := start(t, devnet.Config{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				http.Error(w, "down", http.StatusBadGateway)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	status, _, _ := call(t, n, "_health", "", nil)
	require.Equal(t, http.StatusOK, status)
	down.Store(true)
	status, _, _ = call(t, n, "_health", "", nil)
	require.Equal(t, http.StatusBadGateway, status)
}

func TestAnybodyMayMakeAnAccount(t *testing.T) {
	n := start(t, devnet.Config{})
	input := map[string]string{"handle": "Carol.test", "password": "x", "email": "carol@example.com"}
	status, out, _ := call(t, n, "com.atproto.server.createAccount", "", input)
	require.Equal(t, http.StatusOK, status, out)
	require.Equal(t, "carol.test", out["handle"])
	status, out, _ = call(t, n, "com.atproto.server.createAccount", "", input)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "HandleNotAvailable", out["error"])
	input["handle"] = "carol.example.com"
	_, out, _ = call(t, n, "com.atproto.server.createAccount", "", input)
	require.Equal(t, "UnsupportedDomain", out["error"])
}

func TestTheCommandPrintsWhoCanLogIn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out safeBuffer
	cmd := devnet.Command()
	cmd.SetArgs([]string{"--addr", "127.0.0.1:0", "--account", "dora.test:secret", "--app-password", "dora.test=aaaa-bbbb-cccc-dddd"})
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "aaaa-bbbb-cccc-dddd") }, 30*time.Second, 10*time.Millisecond)
	require.Contains(t, out.String(), "dora.test")
	require.Contains(t, out.String(), "secret")
	cancel()
	require.NoError(t, <-done)
}

// safeBuffer is a buffer that one goroutine writes and another reads.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestAccountsAreParsed(t *testing.T) {
	got, err := devnet.ParseAccounts([]string{"alice.test:pw", " bob.test "}, []string{"bob.test=app"}, "shared")
	require.NoError(t, err)
	require.Equal(t, []devnet.Account{{Handle: "alice.test", Password: "pw"}, {Handle: "bob.test", Password: "shared", AppPassword: "app"}}, got)
	got, err = devnet.ParseAccounts(nil, nil, "")
	require.NoError(t, err)
	require.Len(t, got, 2)
	_, err = devnet.ParseAccounts(nil, []string{"nobody.test=x"}, "")
	require.Error(t, err)
	_, err = devnet.ParseAccounts(nil, []string{"alice.test"}, "")
	require.Error(t, err)
}
