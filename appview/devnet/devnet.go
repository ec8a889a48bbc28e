package devnet

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/pds"
)

const (
	version         = "atcr-devnet"
	shutdownTimeout = 5 * time.Second
)

// Net is a running development network.
type Net struct {
	cfg         Config
	log         *slog.Logger
	db          *sql.DB
	engine      *pds.Engine
	plc         plcLog
	rotationKey atcrypto.PrivateKey
	sessionKey  []byte
	serviceDID  syntax.DID
	limiter     *limiter
	accounts    []AccountInfo
	tempDir     string

	listener net.Listener
	server   *http.Server
	served   chan struct{}

	naming     sync.RWMutex // guards accounts
	creating   sync.Mutex
	refreshing sync.Mutex
	counting   sync.Mutex
	counts     map[string]int
}

// Start listens and serves until Close.
func Start(ctx context.Context, cfg Config) (*Net, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("start devnet: %w", err)
	}
	n := &Net{log: cfg.Logger, limiter: newLimiter(cfg.MaxSessionsPer5Min), counts: map[string]int{}}
	if err := n.start(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("start devnet: %w", err), n.Close())
	}
	return n, nil
}

func (n *Net) start(ctx context.Context, cfg Config) error {
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp("", "devnet-*")
		if err != nil {
			return err
		}
		cfg.Dir, n.tempDir = dir, dir
	}
	var err error
	if n.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		return err
	}
	if cfg.PublicURL == "" {
		cfg.PublicURL = fmt.Sprintf("http://localhost:%d", n.listener.Addr().(*net.TCPAddr).Port)
	}
	n.cfg = cfg
	u, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return fmt.Errorf("parse the public URL: %w", err)
	}
	n.serviceDID = syntax.DID("did:web:" + strings.ReplaceAll(u.Host, ":", "%3A"))

	if n.engine, err = pds.Open(ctx, pds.Config{Dir: cfg.Dir, Logger: cfg.Logger}); err != nil {
		return err
	}
	if n.db, err = openStore(ctx, cfg.Dir); err != nil {
		return err
	}
	n.plc = plcLog{n.db}
	if err := n.loadKeys(ctx); err != nil {
		return err
	}
	if err := n.refreshIdentities(ctx); err != nil {
		return err
	}
	for _, want := range cfg.Accounts {
		info, err := n.ensureAccount(ctx, want)
		if err != nil {
			return fmt.Errorf("account %s: %w", want.Handle, err)
		}
		n.accounts = append(n.accounts, info)
	}
	n.serve()
	return nil
}

func (n *Net) loadKeys(ctx context.Context) error {
	rotation, err := secret(ctx, n.db, "rotation-key", func() (string, error) {
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			return "", err
		}
		return key.Multibase(), nil
	})
	if err != nil {
		return err
	}
	if n.rotationKey, err = atcrypto.ParsePrivateMultibase(rotation); err != nil {
		return fmt.Errorf("parse the rotation key: %w", err)
	}
	session, err := secret(ctx, n.db, "session-key", func() (string, error) {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		return base64.StdEncoding.EncodeToString(key), nil
	})
	if err != nil {
		return err
	}
	if n.sessionKey, err = base64.StdEncoding.DecodeString(session); err != nil {
		return fmt.Errorf("parse the session key: %w", err)
	}
	return nil
}

func (n *Net) serve() {
	n.log.Warn("DEVNET IS NOT FOR PRODUCTION: anybody who reaches it can make accounts, and it keeps passwords readable",
		"listening", n.Addr(), "publicURL", n.cfg.PublicURL)
	n.server = &http.Server{Handler: n.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)}
	n.served = make(chan struct{})
	go func() {
		defer close(n.served)
		if err := n.server.Serve(n.listener); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("devnet stopped serving", "error", err)
		}
	}()
}

// Handler serves both the PLC directory and the PDS.
func (n *Net) Handler() http.Handler {
	repos := pds.NewHandler(n.engine, pds.HandlerConfig{
		ServiceDID:    n.serviceDID,
		UserDomains:   []string{userDomain},
		Authorize:     n.authorize,
		ResolveHandle: n.resolve,
		Identity: func(ctx context.Context, did syntax.DID) (string, any, error) {
			a, err := n.account(ctx, string(did))
			if err != nil {
				return "", nil, err
			}
			doc, err := n.didDocument(ctx, did)
			return string(a.Handle), doc, err
		},
	})
	h := pds.Methods{
		"_health": {Verb: http.MethodGet, Serve: n.health},

		"com.atproto.identity.resolveHandle": {Verb: http.MethodGet, Serve: n.resolveHandle},

		"com.atproto.server.createAccount":     {Verb: http.MethodPost, Serve: n.serveCreateAccount},
		"com.atproto.server.createSession":     {Verb: http.MethodPost, Serve: n.createSession},
		"com.atproto.server.refreshSession":    {Verb: http.MethodPost, Serve: n.refreshSession},
		"com.atproto.server.deleteSession":     {Verb: http.MethodPost, Serve: n.deleteSession},
		"com.atproto.server.getSession":        {Verb: http.MethodGet, Serve: n.getSession},
		"com.atproto.server.createAppPassword": {Verb: http.MethodPost, Serve: n.createAppPassword},
		"com.atproto.server.listAppPasswords":  {Verb: http.MethodGet, Serve: n.listAppPasswords},
		"com.atproto.server.revokeAppPassword": {Verb: http.MethodPost, Serve: n.revokeAppPassword},
		"com.atproto.server.getServiceAuth":    {Verb: http.MethodGet, Serve: n.getServiceAuth},
	}.Handler(n.log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/xrpc/"):
			repos.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/did:"):
			n.servePLC(w, r)
		case r.URL.Path == "/.well-known/atproto-did":
			n.wellKnownDID(w, r)
		case r.URL.Path == "/_health":
			pds.WriteJSON(w, http.StatusOK, map[string]string{"version": version})
		default:
			http.NotFound(w, r)
		}
	}))
	h = n.counted(h)
	if n.cfg.Wrap != nil {
		h = n.cfg.Wrap(h)
	}
	return h
}

// counted counts XRPC calls by the last part of the method's name.
func (n *Net) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if nsid, ok := strings.CutPrefix(r.URL.Path, "/xrpc/"); ok {
			n.counting.Lock()
			n.counts[nsid[strings.LastIndexByte(nsid, '.')+1:]]++
			n.counting.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

func (n *Net) health(w http.ResponseWriter, r *http.Request) error {
	if err := n.engine.Ping(r.Context()); err != nil {
		n.log.Error("devnet is not healthy", "error", err)
		pds.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"version": version, "error": "Service Unavailable"})
		return nil
	}
	pds.WriteJSON(w, http.StatusOK, map[string]string{"version": version})
	return nil
}

func (n *Net) resolve(ctx context.Context, handle syntax.Handle) (syntax.DID, error) {
	a, err := n.account(ctx, string(handle))
	if errors.Is(err, errNoAccount) {
		return "", pds.ErrRepoNotFound
	}
	return a.DID, err
}

func (n *Net) resolveHandle(w http.ResponseWriter, r *http.Request) error {
	handle, err := syntax.ParseHandle(r.URL.Query().Get("handle"))
	if err != nil {
		return pds.InvalidRequest("handle must be a valid handle")
	}
	did, err := n.resolve(r.Context(), handle.Normalize())
	if errors.Is(err, pds.ErrRepoNotFound) {
		return badToken("HandleNotFound", "Unable to resolve handle")
	}
	if err != nil {
		return err
	}
	pds.WriteJSON(w, http.StatusOK, map[string]any{"did": did})
	return nil
}

// wellKnownDID tells the DID of the handle that is the request's host.
func (n *Net) wellKnownDID(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	a, err := n.account(r.Context(), host)
	if err != nil {
		http.Error(w, "User not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(a.DID)) // the client is gone when this fails
}

func (n *Net) didDocument(ctx context.Context, did syntax.DID) (map[string]any, error) {
	op, _, err := n.plc.latest(ctx, did)
	if err != nil {
		return nil, err
	}
	return document(op, did), nil
}

// URL of both the PLC directory and the PDS, as PublicURL says.
func (n *Net) URL() string { return n.cfg.PublicURL }

// Addr is the address listened on.
func (n *Net) Addr() string { return n.listener.Addr().String() }

// Accounts with their DIDs and passwords, in the order of Config.
func (n *Net) Accounts() []AccountInfo {
	n.naming.RLock()
	defer n.naming.RUnlock()
	return append([]AccountInfo(nil), n.accounts...)
}

// Account by handle; panics when there is none (tests name accounts that they configured).
func (n *Net) Account(handle string) AccountInfo {
	for _, a := range n.Accounts() {
		if string(a.Handle) == handle {
			return a
		}
	}
	panic("devnet: no account " + handle + " was configured")
}

// Engine gives tests direct access to the repositories.
func (n *Net) Engine() *pds.Engine { return n.engine }

// Count of received calls of an XRPC method by its last part, such as "createSession".
func (n *Net) Count(method string) int {
	n.counting.Lock()
	defer n.counting.Unlock()
	return n.counts[method]
}

// Close stops serving and closes the databases; a temporary folder is removed.
func (n *Net) Close() error {
	var errs []error
	if n.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if err := n.server.Shutdown(ctx); err != nil {
			errs = append(errs, n.server.Close()) // somebody still reads: cut them off
		}
		<-n.served
	} else if n.listener != nil {
		errs = append(errs, n.listener.Close())
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	if n.tempDir != "" {
		errs = append(errs, os.RemoveAll(n.tempDir))
	}
	return errors.Join(errs...)
}
