package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/session"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/seal"
)

// clock is the manager's; the PDS keeps real time.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

type world struct {
	*devnet.Net
	t      *testing.T
	alice  devnet.AccountInfo
	db     *store.DB
	key    seal.Key
	client *http.Client
	dir    *atproto.Directory
	clock  clock
	refuse atomic.Value // method name: func(w) answers instead of the PDS
}

type fault struct {
	method string
	status int
	name   string
}

func start(t *testing.T, cfg devnet.Config) *world {
	t.Helper()
	w := &world{t: t}
	w.refuse.Store(fault{})
	cfg.Accounts = []devnet.Account{{Handle: "alice.test"}}
	cfg.Wrap = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if f := w.refuse.Load().(fault); f.method != "" && strings.HasSuffix(r.URL.Path, f.method) {
				rw.WriteHeader(f.status)
				json.NewEncoder(rw).Encode(map[string]string{"error": f.name})
				return
			}
			next.ServeHTTP(rw, r)
		})
	}
	var err error
	w.Net, err = devnet.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	w.alice = w.Account("alice.test")
	w.db, err = store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "ui.db")})
	require.NoError(t, err)
	t.Cleanup(func() { w.db.Close() })
	w.key, _ = seal.Generate()
	w.client = diddoc.NewClient(diddoc.Policy{DevLoopback: true}, diddoc.Options{})
	w.dir = atproto.NewDirectory(atproto.DirectoryConfig{PLCURL: w.URL(), HandleResolverURL: w.URL(), Operator: w.client, Guarded: w.client})
	return w
}

func (w *world) manager() *session.Manager {
	return session.NewManager(session.Config{Store: w.db, Key: w.key, Directory: w.dir, Client: w.client, Logger: slog.New(slog.DiscardHandler), Now: w.clock.now})
}

func (w *world) check(m *session.Manager, password string) error {
	who, err := w.dir.ResolveDID(w.t.Context(), w.alice.DID)
	require.NoError(w.t, err)
	_, err = m.Check(w.t.Context(), who, password, "192.0.2.0/24")
	return err
}

func (w *world) whoami(m *session.Manager) error {
	req, err := http.NewRequest(http.MethodGet, "/xrpc/com.atproto.server.getSession", nil)
	require.NoError(w.t, err)
	resp, err := m.Do(w.t.Context(), w.alice.DID, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var out struct{ DID syntax.DID }
	require.NoError(w.t, atproto.DecodeAnswer("getSession", resp, &out))
	require.Equal(w.t, w.alice.DID, out.DID)
	return nil
}

func TestWithoutALoginThereIsNoSession(t *testing.T) {
	w := start(t, devnet.Config{})
	require.ErrorIs(t, w.whoami(w.manager()), atproto.ErrUnauthorized)
}

func TestNothingReadableIsStored(t *testing.T) {
	w := start(t, devnet.Config{})
	require.NoError(t, w.check(w.manager(), w.alice.AppPassword))
	row, err := w.db.LatestSession(t.Context(), string(w.alice.DID))
	require.NoError(t, err)
	all := row.Credential + string(row.Sealed)
	require.NotContains(t, all, w.alice.AppPassword)
	require.NotContains(t, all, "eyJ", "no JWT in the clear")

	w.key, _ = seal.Generate()
	require.ErrorIs(t, w.whoami(w.manager()), atproto.ErrUnauthorized, "another sealing key opens nothing")
}

func TestReplicasRefreshASessionOneAtATime(t *testing.T) {
	w := start(t, devnet.Config{RefreshGrace: time.Nanosecond})
	a, b := w.manager(), w.manager()
	require.NoError(t, w.check(a, w.alice.AppPassword))
	w.clock.advance(3 * time.Hour) // past the access token, as the managers see it
	var wg sync.WaitGroup
	errs := make(chan error, 40)
	for i := range 40 {
		m := []*session.Manager{a, b}[i%2]
		wg.Go(func() {
			// The new tokens look expired too, to a clock three hours ahead. This PDS takes a refresh token once only:
			// two refreshes at a time, or one from an old row, would end the session.
			req, _ := http.NewRequest(http.MethodGet, "/xrpc/com.atproto.server.getSession", nil)
			resp, err := m.Do(t.Context(), w.alice.DID, req)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = errors.New(resp.Status)
				}
			}
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 1, w.Count("createSession"))
}

func TestATokenThatThePDSRefusesIsRefreshedAndTheRequestSentAgain(t *testing.T) {
	w := start(t, devnet.Config{AccessTTL: 4 * time.Second}) // longer than a request takes on a busy machine
	m := w.manager()
	w.clock.advance(-time.Hour) // this replica's clock is behind: it thinks that the token lives
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.Eventually(t, func() bool {
		body := []byte("a blob")
		req, err := http.NewRequest(http.MethodPost, "/xrpc/com.atproto.repo.uploadBlob", bytes.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "text/plain")
		resp, err := m.Do(t.Context(), w.alice.DID, req)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, string(b))
		return w.Count("refreshSession") > 0
	}, 30*time.Second, 200*time.Millisecond)
	require.Equal(t, 1, w.Count("createSession"))
}

func TestARevokedAppPasswordEndsAtTheNextRefresh(t *testing.T) {
	w := start(t, devnet.Config{})
	m := w.manager()
	require.NoError(t, w.check(m, w.alice.AppPassword))
	w.refuse.Store(fault{"refreshSession", 400, "ExpiredToken"})
	w.clock.advance(3 * time.Hour)
	require.ErrorIs(t, w.whoami(m), atproto.ErrUnauthorized)
	_, err := w.db.LatestSession(t.Context(), string(w.alice.DID))
	require.ErrorIs(t, err, store.ErrNotFound, "the row is gone at once")

	w.refuse.Store(fault{"createSession", 401, "AuthenticationRequired"})
	require.ErrorIs(t, w.check(m, w.alice.AppPassword), atproto.ErrUnauthorized)
}

func TestASessionThatWasJustLookedUpIsKnownWithoutTheStoreForSeconds(t *testing.T) {
	w := start(t, devnet.Config{})
	m, other := w.manager(), w.manager()
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.ErrorIs(t, w.check(m, w.alice.AppPassword+"x"), atproto.ErrUnauthorized, "it is known by its password")

	row, err := w.db.LatestSession(t.Context(), string(w.alice.DID))
	require.NoError(t, err)
	require.NoError(t, w.db.DeleteSession(t.Context(), row.Credential, row.Version)) // as another replica does
	w.refuse.Store(fault{"createSession", 401, "AuthenticationRequired"})
	w.clock.advance(4 * time.Second)
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.ErrorIs(t, w.check(other, w.alice.AppPassword), atproto.ErrUnauthorized, "who did not look it up asks the PDS")
	w.clock.advance(2 * time.Second)
	require.ErrorIs(t, w.check(m, w.alice.AppPassword), atproto.ErrUnauthorized)
}

func TestASessionThatThisReplicaEndsIsNotKnownAnyMore(t *testing.T) {
	w := start(t, devnet.Config{})
	m := w.manager()
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.NoError(t, w.check(m, w.alice.AppPassword))
	w.refuse.Store(fault{"refreshSession", 400, "ExpiredToken"})
	who, err := w.dir.ResolveDID(t.Context(), w.alice.DID)
	require.NoError(t, err)
	row, err := w.db.LatestSession(t.Context(), string(w.alice.DID))
	require.NoError(t, err)
	row.UpdatedAt = row.UpdatedAt.Add(-time.Hour) // so that Confirm asks the PDS
	require.NoError(t, w.db.SaveSession(t.Context(), *row))
	require.ErrorIs(t, m.Confirm(t.Context(), who, row.Credential), atproto.ErrUnauthorized)
	w.refuse.Store(fault{"createSession", 401, "AuthenticationRequired"})
	require.ErrorIs(t, w.check(m, w.alice.AppPassword), atproto.ErrUnauthorized)
}

func TestASessionThatDiedIsReplacedByALogin(t *testing.T) {
	w := start(t, devnet.Config{})
	m := w.manager()
	require.NoError(t, w.check(m, w.alice.AppPassword))
	w.refuse.Store(fault{"refreshSession", 401, "InvalidToken"})
	w.clock.advance(3 * time.Hour)
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.Equal(t, 2, w.Count("createSession"))
}

func TestAnOlderSessionTakesOverFromARevokedOne(t *testing.T) {
	w := start(t, devnet.Config{})
	m := w.manager()
	require.NoError(t, w.check(m, w.alice.AppPassword))
	w.clock.advance(time.Second)
	require.NoError(t, w.check(m, w.alice.Password))
	latest, err := w.db.LatestSession(t.Context(), string(w.alice.DID))
	require.NoError(t, err)
	latest.Sealed = []byte("nonsense that does not open")
	latest.ExpiresAt = time.Unix(1, 0)
	require.NoError(t, w.db.SaveSession(t.Context(), *latest))
	require.NoError(t, w.whoami(m))
}

func TestAnOutageDoesNotLockOutWhoLoggedInBefore(t *testing.T) {
	w := start(t, devnet.Config{})
	m := w.manager()
	require.NoError(t, w.check(m, w.alice.AppPassword))
	w.refuse.Store(fault{"refreshSession", 503, ""})
	w.clock.advance(3 * time.Hour)
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.ErrorIs(t, w.whoami(m), atproto.ErrUnavailable, "but nothing can be written")
	w.clock.advance(24 * time.Hour)
	require.ErrorIs(t, w.check(m, w.alice.AppPassword), atproto.ErrUnavailable, "and not for ever")
	w.refuse.Store(fault{})
	require.NoError(t, w.check(m, w.alice.AppPassword))
	require.Equal(t, 1, w.Count("createSession"), "an outage loses no session")
}

// Somebody who guesses must not lock the user out.
func TestWrongPasswordsFromOneNetworkCostThoseFromAnotherNothing(t *testing.T) {
	w := start(t, devnet.Config{})
	m := w.manager()
	who, err := w.dir.ResolveDID(t.Context(), w.alice.DID)
	require.NoError(t, err)
	from := func(network, password string) error {
		_, err := m.Check(t.Context(), who, password, network)
		return err
	}
	var limited *atproto.TooManyRequests
	for n := range 50 {
		err = from("198.51.100.0/24", fmt.Sprint("guess ", n))
		if n < 10 {
			require.ErrorIs(t, err, atproto.ErrUnauthorized)
		} else {
			require.ErrorAs(t, err, &limited)
		}
	}
	require.Equal(t, 10, w.Count("createSession"))
	require.NoError(t, from("192.0.2.0/24", w.alice.AppPassword))

	// Together they stay under what the PDS allows us for one account.
	for n := range 50 {
		require.Error(t, from(fmt.Sprintf("203.0.%d.0/24", n), fmt.Sprint("another guess ", n)))
	}
	require.Equal(t, 25, w.Count("createSession"))
}

func TestAPDSThatLimitsLoginsIsPassedOn(t *testing.T) {
	w := start(t, devnet.Config{})
	w.refuse.Store(fault{"createSession", 429, "RateLimitExceeded"})
	var limited *atproto.TooManyRequests
	require.ErrorAs(t, w.check(w.manager(), w.alice.AppPassword), &limited)
	require.GreaterOrEqual(t, limited.RetryAfter, time.Second)
}

// moved is a directory in which alice has another PDS than the one she logged in at.
type moved struct {
	atproto.Resolver
	to string
}

func (m moved) ResolveDID(ctx context.Context, did syntax.DID) (*atproto.Identity, error) {
	who, err := m.Resolver.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	other := *who
	other.PDSEndpoint = m.to
	return &other, nil
}

func TestTokensAreNeverShownToAnotherPDS(t *testing.T) {
	w := start(t, devnet.Config{})
	require.NoError(t, w.check(w.manager(), w.alice.AppPassword))
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the new PDS saw %s with %q", r.URL.Path, r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	m := session.NewManager(session.Config{Store: w.db, Key: w.key, Directory: moved{w.dir, other.URL}, Client: w.client, Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, w.whoami(m), atproto.ErrUnauthorized)
	_, err := w.db.LatestSession(t.Context(), string(w.alice.DID))
	require.ErrorIs(t, err, store.ErrNotFound)
}
