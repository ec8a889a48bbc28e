package session

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/singleflight"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/seal"
)

const (
	exchangeTimeout = 15 * time.Second
	leaseTTL        = 40 * time.Second // over two exchanges: a refresh, then a login
	refreshMargin   = time.Minute      // an access token this close to its end is refreshed first
	outageGrace     = 24 * time.Hour   // a verified password outlives its access token by this while its PDS is down
	maxPassword     = 512              // bytes
)

// Store is where sessions are kept; [store.DB] is one.
type Store interface {
	SessionByCredential(ctx context.Context, credential string) (*store.PDSSession, error)
	LatestSession(ctx context.Context, did string) (*store.PDSSession, error)
	SaveSession(ctx context.Context, s store.PDSSession) error
	DeleteSession(ctx context.Context, credential string, version int64) error
	Lease(ctx context.Context, name string, ttl time.Duration) (release func(), err error)
}

// Config is what a [Manager] needs.
type Config struct {
	Store     Store
	Key       seal.Key
	Directory atproto.Resolver
	Client    *http.Client // guarded, since users choose their PDS; without a total timeout
	Logger    *slog.Logger
	Now       func() time.Time // nil is time.Now
}

// Manager implements [atproto.Sessions] for app passwords. It is safe for concurrent use.
type Manager struct {
	store  Store
	key    seal.Key
	box    seal.Box
	dir    atproto.Resolver
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	limits *limits
	recent *recent
	flight singleflight.Group
}

var _ atproto.Sessions = (*Manager)(nil)

// NewManager makes one.
func NewManager(c Config) *Manager {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Manager{
		store: c.Store, key: c.Key, box: c.Key.Box("pds session"), dir: c.Directory, client: c.Client, log: c.Logger,
		now: c.Now, limits: newLimits(c.Now), recent: newRecent(c.Now),
	}
}

// Check verifies an app password, from the stored session while that lives, as [Manager.Confirm] says, else by logging
// in, and gives the name of its session. Networks have budgets of logins of their own: from is the client's. It fails with [atproto.ErrUnauthorized] (wrong), [*atproto.TooManyRequests] or
// [atproto.ErrUnavailable].
func (m *Manager) Check(ctx context.Context, who *atproto.Identity, password, from string) (credential string, err error) {
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("app password of %s: %w", who.DID, atproto.ErrUnauthorized)
	}
	credential = m.credential(who.DID, password)
	if m.recent.has(credential, who.PDSEndpoint) {
		return credential, nil
	}
	row, err := m.store.SessionByCredential(ctx, credential)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return "", err
	case row.PDS == who.PDSEndpoint && m.fresh(row):
		err := m.confirm(ctx, row)
		if err == nil {
			m.recent.add(row)
		}
		if !errors.Is(err, atproto.ErrUnauthorized) {
			return credential, err
		}
		// The session is over; the password may still be good.
	}
	if m.limits.isWrong(credential) {
		return "", fmt.Errorf("app password of %s: %w: it was refused less than %s ago", who.DID, atproto.ErrUnauthorized, wrongTTL)
	}
	_, err = m.once(ctx, "login", credential, func(ctx context.Context) (*store.PDSSession, error) {
		return m.login(ctx, who, credential, password, from)
	})
	return credential, err
}

// Do sends req as did: see [atproto.Sessions]. An access token that ran out is refreshed first, or once after the
// PDS refuses it. When a session turns out to be over, an older one of the same user, from another app password,
// takes its place.
func (m *Manager) Do(ctx context.Context, did syntax.DID, req *http.Request) (*http.Response, error) {
	var last error
	for {
		row, err := m.store.LatestSession(ctx, string(did))
		switch {
		case errors.Is(err, store.ErrNotFound) && last != nil:
			return nil, last
		case errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("session of %s: %w", did, atproto.ErrUnauthorized)
		case err != nil:
			return nil, err
		}
		resp, err := m.attempt(ctx, did, row, req)
		var over *overError
		if !errors.As(err, &over) {
			return resp, err
		}
		last = err
	}
}

// overError: the session is over and its row is gone.
type overError struct{ error }

func (e *overError) Unwrap() error { return e.error }

func (m *Manager) attempt(ctx context.Context, did syntax.DID, row *store.PDSSession, req *http.Request) (*http.Response, error) {
	if who, err := m.dir.ResolveDID(ctx, did); err == nil && who.PDSEndpoint != row.PDS {
		// The account moved. Its tokens mean nothing at the new PDS and must not be shown to it.
		if err := m.end(ctx, row); err != nil {
			return nil, err
		}
		return nil, &overError{fmt.Errorf("session of %s: %w: the account moved to another PDS", did, atproto.ErrUnauthorized)}
	}
	var err error
	if !m.fresh(row) {
		if row, err = m.renew(ctx, row); err != nil {
			return nil, err
		}
	}
	resp, err := m.send(row, req)
	if err != nil || !expired(resp) {
		return resp, err
	}
	if row, err = m.renew(ctx, row); err != nil {
		return nil, err
	}
	return m.send(row, req)
}

func (m *Manager) send(row *store.PDSSession, req *http.Request) (*http.Response, error) {
	t, err := m.open(row)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(row.PDS)
	if err != nil {
		return nil, fmt.Errorf("session of %s: %w", row.DID, err)
	}
	out := req.Clone(req.Context())
	if req.GetBody != nil {
		if out.Body, err = req.GetBody(); err != nil {
			return nil, fmt.Errorf("session of %s: %w", row.DID, err)
		}
	}
	out.URL.Scheme, out.URL.Host, out.Host = base.Scheme, base.Host, ""
	out.Header.Set("Authorization", "Bearer "+t.Access)
	resp, err := m.client.Do(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: the PDS of %s: %s", req.URL.Path, atproto.ErrUnavailable, row.DID, diddoc.Class(err))
	}
	return resp, nil
}

// login makes or renews the session of a credential. It runs once at a time for each, among all replicas.
func (m *Manager) login(ctx context.Context, who *atproto.Identity, credential, password, from string) (*store.PDSSession, error) {
	row, err := m.store.SessionByCredential(ctx, credential)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return nil, err
	case row.PDS != who.PDSEndpoint:
	case m.fresh(row):
		return row, nil
	default:
		renewed, err := m.exchangeRefresh(ctx, row)
		switch {
		case err == nil:
			return renewed, nil
		case errors.Is(err, atproto.ErrUnavailable) && m.now().Before(row.ExpiresAt.Add(outageGrace)):
			m.log.WarnContext(ctx, "PDS is down; its user's password was verified before and is accepted", "did", row.DID, "error", err)
			return row, nil
		case !errors.Is(err, atproto.ErrUnauthorized):
			return nil, err
		}
		// The session is over, and its row is gone. The password may still be good.
	}
	if wait, ok := m.limits.take(who.DID, from); !ok {
		return nil, &atproto.TooManyRequests{Doing: "logging in " + string(who.DID), RetryAfter: wait.Round(time.Second)}
	}
	t, err := m.create(ctx, who, password)
	if err != nil {
		if errors.Is(err, atproto.ErrUnauthorized) {
			m.limits.markWrong(credential)
		}
		return nil, err
	}
	m.log.InfoContext(ctx, "PDS session made", "did", string(who.DID), "pds", who.PDSEndpoint)
	return m.save(ctx, store.PDSSession{Credential: credential, DID: string(who.DID), PDS: who.PDSEndpoint}, t)
}

// renew refreshes a session that ran out or was refused, unless another replica did so meanwhile.
func (m *Manager) renew(ctx context.Context, seen *store.PDSSession) (*store.PDSSession, error) {
	return m.once(ctx, "renew", seen.Credential, func(ctx context.Context) (*store.PDSSession, error) {
		row, err := m.store.SessionByCredential(ctx, seen.Credential)
		if errors.Is(err, store.ErrNotFound) {
			return nil, &overError{fmt.Errorf("session of %s: %w", seen.DID, atproto.ErrUnauthorized)}
		}
		if err != nil || row.Version != seen.Version {
			return row, err
		}
		return m.exchangeRefresh(ctx, row)
	})
}

// exchangeRefresh refreshes and saves. A refused refresh deletes the row at once: the app password was revoked.
func (m *Manager) exchangeRefresh(ctx context.Context, row *store.PDSSession) (*store.PDSSession, error) {
	t, err := m.open(row)
	if err == nil {
		t, err = m.refresh(ctx, row.PDS, syntax.DID(row.DID), t)
	}
	if err == nil {
		return m.save(ctx, *row, t)
	}
	// A PDS says in many ways that a refresh token is no good; only an outage or a limit leaves it alone.
	if errors.Is(err, atproto.ErrRefused) || errors.Is(err, atproto.ErrUnknownIdentity) {
		err = fmt.Errorf("%w: %w", atproto.ErrUnauthorized, err)
	}
	if errors.Is(err, atproto.ErrUnauthorized) {
		m.log.InfoContext(ctx, "PDS session ended", "did", row.DID, "error", err)
		if derr := m.end(ctx, row); derr != nil {
			return nil, derr
		}
		err = &overError{err}
	}
	return nil, err
}

// end deletes a session, unless it was renewed since.
func (m *Manager) end(ctx context.Context, row *store.PDSSession) error {
	err := m.store.DeleteSession(ctx, row.Credential, row.Version)
	m.recent.remove(row.Credential)
	return err
}

func (m *Manager) save(ctx context.Context, row store.PDSSession, t tokens) (*store.PDSSession, error) {
	plain, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("session of %s: %w", row.DID, err)
	}
	row.Sealed = m.box.Seal(plain, row.Credential)
	row.ExpiresAt, row.EndsAt = t.expiry(m.now())
	row.Version++
	row.UpdatedAt = m.now()
	// The PDS has already turned the old refresh token into this one: a caller that went away must not lose it.
	if err := m.store.SaveSession(context.WithoutCancel(ctx), row); err != nil {
		return nil, err
	}
	return &row, nil
}

func (m *Manager) open(row *store.PDSSession) (tokens, error) {
	var t tokens
	plain, err := m.box.Open(row.Sealed, row.Credential)
	if err == nil {
		err = json.Unmarshal(plain, &t)
	}
	if err != nil {
		return t, fmt.Errorf("session of %s: %w: %w", row.DID, atproto.ErrUnauthorized, err)
	}
	return t, nil
}

// once runs f once at a time for a credential: callers in this process share one run, and processes take turns. f
// survives a caller that gives up.
func (m *Manager) once(ctx context.Context, what, credential string, f func(context.Context) (*store.PDSSession, error)) (*store.PDSSession, error) {
	ch := m.flight.DoChan(what+" "+credential, func() (_ any, err error) {
		defer background.Caught(ctx, m.log, "a session", &err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTTL)
		defer cancel()
		release, err := m.store.Lease(ctx, "session "+credential, leaseTTL)
		if err != nil {
			return nil, fmt.Errorf("session: %w: %w", atproto.ErrUnavailable, err)
		}
		defer release()
		return f(ctx)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("session: %w: %w", atproto.ErrUnavailable, ctx.Err())
	case r := <-ch:
		row, _ := r.Val.(*store.PDSSession) // nil with an error
		return row, r.Err
	}
}

func (m *Manager) fresh(row *store.PDSSession) bool {
	return m.now().Add(refreshMargin).Before(row.ExpiresAt)
}

// credential names a session without saying anything about the password to who has no sealing key.
func (m *Manager) credential(did syntax.DID, password string) string {
	return hex.EncodeToString(m.key.MAC("pds credential", []byte(did), []byte{0}, []byte(password)))
}
