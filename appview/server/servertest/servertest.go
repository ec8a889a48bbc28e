// Package servertest starts a whole ATCR network for a test: devnet, hold and AppView on loopback, with accounts
// alice.test (the hold's captain) and bob.test.
package servertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/cmd/atcr-dev/world"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/pds"
	"atcr.io/operator/appview/server"
	"atcr.io/operator/test/testenv"
)

// Options are those of [world.Options]; Dir is a temporary folder when empty.
type Options = world.Options

// World is a running network that ends with its test.
type World struct {
	*world.World
	t testing.TB
}

// Accounts of a world.
const (
	Alice = "alice.test"
	Bob   = "bob.test"
)

// Start starts a world. ATCR_TEST_LOG=1 shows its logs.
func Start(t testing.TB, o Options) *World {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Log == nil && os.Getenv("ATCR_TEST_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if o.NoAppView { // it is started later, and perhaps again
		for _, addr := range []*string{&o.AppViewAddr, &o.DebugAddr} {
			if *addr == "" {
				*addr = ownAddr(t)
			}
		}
	}
	w, err := world.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return &World{w, t}
}

// ownAddr is an address on loopback that stays free until its server starts, and while it is down.
func ownAddr(t testing.TB) string {
	t.Helper()
	port, err := testenv.Port("127.0.0.1")
	require.NoError(t, err)
	return fmt.Sprint("127.0.0.1:", port)
}

// Account is an account by its handle.
func (w *World) Account(handle string) devnet.AccountInfo { return w.Devnet.Account(handle) }

// Auth logs a go-containerregistry client in as an account.
func (w *World) Auth(handle string) authn.Authenticator {
	return &authn.Basic{Username: handle, Password: w.Account(handle).AppPassword}
}

// Token is a registry token of an account for scopes; of nobody when handle is empty.
func (w *World) Token(handle string, scopes ...string) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.URL+"/auth/token?"+url.Values{"scope": scopes}.Encode(), nil)
	require.NoError(w.t, err)
	if handle != "" {
		req.SetBasicAuth(handle, w.Account(handle).AppPassword)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, resp.StatusCode, "%s", body)
	var out struct {
		Token string `json:"token"`
	}
	require.NoError(w.t, json.Unmarshal(body, &out))
	return out.Token
}

// Do sends a request to the AppView with a token for everything in repository, as handle (nobody when empty).
func (w *World) Do(handle, method, path, repository string, body io.Reader, header http.Header) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+path, body)
	require.NoError(w.t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+w.Token(handle, "repository:"+repository+":pull,push,delete"))
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Hold is one more hold of a world.
type Hold struct {
	*hold.Server
	world     *World
	dir, addr string
	stop      func() error
}

// AnotherHold starts one more hold, whose captain is alice too; env goes over the variables of the world's own. It ends
// with the test.
func (w *World) AnotherHold(env map[string]string) *Hold {
	h := &Hold{world: w, dir: w.t.TempDir(), addr: ownAddr(w.t)}
	h.start(env)
	w.t.Cleanup(h.Stop)
	return h
}

func (h *Hold) start(env map[string]string) {
	var err error
	h.Server, h.addr, h.stop, err = h.world.World.AnotherHold(h.world.t.Context(), h.dir, h.addr, env)
	require.NoError(h.world.t, err)
}

// Stop switches the hold off; twice is fine.
func (h *Hold) Stop() {
	if h.stop != nil {
		require.NoError(h.world.t, h.stop())
		h.stop = nil
	}
}

// Restart stops the hold and starts it again with other variables, at the same address with the same data.
func (h *Hold) Restart(env map[string]string) {
	h.Stop()
	h.start(env)
}

// SetDefaultHold writes an account's profile: its pushes go to the hold from then on.
func (w *World) SetDefaultHold(handle string, did syntax.DID) {
	w.t.Helper()
	_, _, err := w.Devnet.Engine().ApplyWrites(w.t.Context(), w.Account(handle).DID, []pds.Write{{Op: pds.Put, Collection: "io.atcr.sailor.profile", RKey: "self",
		Value: map[string]any{"defaultHold": string(did), "createdAt": "2026-01-01T00:00:00Z"}}}, cid.Undef)
	require.NoError(w.t, err)
}

// Replica starts another AppView of the world: the same configuration and database, in other memory. Its requests go
// to it alone. It ends with the test.
func (w *World) Replica() *World { return w.another(w.Environ()) }

// Fresh is Replica with an empty database of its own: it has seen nothing yet.
func (w *World) Fresh() *World {
	return w.another(append(w.Environ(), names.DatabaseURL+"=", names.UIDatabasePath+"="+filepath.Join(w.t.TempDir(), "ui.db")))
}

func (w *World) another(environ []string) *World {
	w.t.Helper()
	api, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	cfg, err := config.Load(append(environ, names.AllowedHosts+"="+api.Addr().String())) // clients take no token from another private address
	require.NoError(w.t, err)
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ATCR_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := server.NewAt(w.t.Context(), cfg, log.With("part", "replica"), w.Now())
	require.NoError(w.t, err)
	debug, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, api, debug) }()
	w.t.Cleanup(func() {
		stop()
		require.NoError(w.t, <-served)
		require.NoError(w.t, s.Close())
	})
	other := *w.World
	other.AppView, other.URL, other.DebugURL = s, "http://"+api.Addr().String(), "http://"+debug.Addr().String()
	return &World{&other, w.t}
}
