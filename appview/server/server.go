package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/session"
	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/oci"
	"atcr.io/operator/appview/oci/upload"
	"atcr.io/operator/appview/pulls"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/backup"
)

const (
	mirrorTTL     = 2 * time.Second  // how soon a tag that was moved through another AppView is seen here
	manifestCache = 64 << 20         // bytes
	manifestStore = 1 << 30          // bytes, about 300,000 manifests
	bodyIdle      = 60 * time.Second // how long a request body, or a client that should read an answer, may stand still
	uploadIdle    = 24 * time.Hour   // as long as holds keep an upload without progress
	sweepEvery    = 10 * time.Minute
	filePoll      = 10 * time.Second // file notifications do not work on every file system
)

// jwksPath is where the public halves of the token keys are.
const jwksPath = "/auth/jwks.json"

// Server is an AppView that is open: its database is migrated and its keys are loaded.
type Server struct {
	cfg        *config.Config
	log        *slog.Logger
	now        func() time.Time
	db         *store.DB
	keys       *auth.Keys
	clientKeys *auth.ClientKeys // nil: none
	runtime    *config.Runtime
	watcher    *files.Watcher
	mirror     *index.Mirror
	pulls      *pulls.Counter
	self       *self // nil without a key
	holds      *holdclient.Client
	uploads    *upload.Uploader
	refresh    *auth.RefreshTokens
	metrics    *metrics
	backups    *backup.Schedule // nil: none are made
	tracing    *observe.Tracing // nil: no traces
	handler    http.Handler
	draining   atomic.Bool

	certificate *certificate // of the registry API; nil: plain HTTP
}

// New opens a server. Close it, also when Serve was never called.
func New(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Server, error) {
	return NewAt(ctx, cfg, log, time.Now)
}

// NewAt is New with the clock by which sessions, tokens, identities and what is remembered of records and holds expire.
func NewAt(ctx context.Context, cfg *config.Config, log *slog.Logger, now func() time.Time) (*Server, error) {
	log = observe.Logger(log)
	s := &Server{cfg: cfg, log: log, now: now, watcher: files.NewWatcher(filePoll, log)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the AppView: %w", err), s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	for _, w := range s.cfg.Warnings {
		s.log.WarnContext(ctx, w)
	}
	if s.cfg.Tracing {
		if s.tracing, err = observe.OpenTracing(ctx, "atcr-appview", version.Version); err != nil {
			return err
		}
	}
	s.metrics = newMetrics(s.tracing)
	if s.runtime, err = config.OpenRuntime(s.cfg, s.log); err != nil {
		return err
	}
	if s.keys, err = auth.OpenKeys(keyFiles(s.cfg), s.log); err != nil {
		return err
	}
	if s.clientKeys, err = auth.ReadClientKeys(s.cfg.OAuthKeyPath); err != nil {
		return err
	}
	if s.cfg.TLSCertPath != "" {
		if s.certificate, err = openCertificate(s.cfg.TLSCertPath, s.cfg.TLSKeyPath, s.log); err != nil {
			return err
		}
		s.certificate.watch(s.watcher, s.metrics.reloaded("certificate"))
	}
	sealing, err := s.cfg.SealingKey()
	if err != nil {
		return err
	}
	for _, key := range []string{s.cfg.AuthKeyPath, s.cfg.SealingKeyPath} {
		if files.ReadableByAll(key) {
			s.log.WarnContext(ctx, "everybody on this machine may read a key; take the right away (chmod o-r, or defaultMode 0440 of its volume)", "file", key)
		}
	}
	database := storeOptions(s.cfg)
	database.Exclusive, database.Logger = true, s.log
	if s.db, err = store.Open(ctx, database); err != nil {
		return err
	}
	if path := s.cfg.SQLitePath(); s.cfg.BackupDir != "" && path != "" {
		s.backups = &backup.Schedule{Dir: backup.Dir{Path: s.cfg.BackupDir, Keep: s.cfg.BackupKeep}, Database: path,
			Interval: s.cfg.BackupInterval, Log: s.log}
		s.metrics.registry.MustRegister(s.backups)
	}
	s.keys.Observe(s.metrics.reloaded("keys"))
	s.runtime.Observe(s.metrics.reloaded("runtime"))
	s.keys.Watch(s.watcher)
	s.runtime.Watch(s.watcher)

	// Two kinds of clients: for places that strangers chose, and for those that the operator configured. Streams have
	// no total timeout; every call has a deadline of its own.
	endless := diddoc.Options{Timeout: -1}
	guarded := diddoc.NewClient(s.runtime.Policy(), endless)
	operator := diddoc.NewClient(s.runtime.OperatorPolicy(), endless)
	to := s.metrics.upstream.Client
	directory := atproto.NewDirectory(atproto.DirectoryConfig{
		PLCURL: s.cfg.PLCURL, HandleResolverURL: s.cfg.HandleResolverURL, Resolver: net.DefaultResolver, Logger: s.log, Memory: identities{s.db}, Now: s.now,
		Operator: to(diddoc.NewClient(s.runtime.OperatorPolicy(), diddoc.Options{}), observe.Identity),
		Guarded:  to(diddoc.NewClient(s.runtime.Policy(), diddoc.Options{}), observe.Identity),
	})
	toPDS := to(guarded, observe.PDS)
	sessions := session.NewManager(session.Config{Store: s.db, Key: sealing, Directory: directory, Client: toPDS, Logger: s.log, Now: s.now})
	pds := atproto.NewPDS(directory, toPDS, sessions).At(s.now)
	s.holds = holdclient.New(holdclient.Config{Directory: holds{directory}, Tokens: serviceTokens{pds},
		Configured: func(did string) (names.Hold, bool) { return s.runtime.Current().Hold(did) },
		Guarded:    to(guarded, observe.Hold), Trusted: to(operator, observe.Hold), Trusting: s.trusting, HandOut: s.runtime.Policy().CheckURL, Now: s.now})
	s.mirror = index.New(index.Config{PDS: pds, Store: s.db, Log: s.log, TTL: mirrorTTL, CacheBytes: manifestCache,
		StoreBytes: manifestStore, Now: s.now})
	s.uploads = upload.New(s.holds, &upload.Sessions{Store: s.db, Now: s.now}, s.log)

	verifier := auth.NewVerifier(s.keys, s.cfg.ServiceName, s.now)
	s.metrics.registry.MustRegister(append(s.db.Collectors(), state{s.keys, verifier, s.mirror, s.db})...)
	counting := pulls.Config{Holds: s.holds, CameAlong: s.mirror.CameAlong, Now: s.now, Log: s.log}
	if s.self, err = newSelf(s.cfg, s.log); err != nil {
		return err
	}
	if s.self != nil {
		counting.Sign = s.self.sign
	}
	s.pulls = pulls.New(counting)

	registry := oci.New(oci.Config{
		Tokens: tokens{verifier,
			&auth.Challenger{BaseURL: s.cfg.BaseURL, Service: s.cfg.ServiceName, AllowedHosts: s.runtime.AllowedHosts}},
		Owners: newOwners(directory), Holds: s.holds, Records: s.mirror, Handles: index.NewHandles(s.db, s.log, s.now), Uploads: s.uploads, Log: s.log, BodyIdle: bodyIdle,
		DefaultHold: s.defaultHold, Pulls: s.pulls,
	})
	s.refresh = &auth.RefreshTokens{Store: s.db, Now: s.now}
	issuer := &auth.Handler{
		Issuer:    &auth.Issuer{Keys: s.keys, Service: s.cfg.ServiceName, Life: s.cfg.TokenExpiration, Now: s.now},
		Directory: directory, Refresh: s.refresh, NoOffline: !s.cfg.RefreshTokens, Logger: s.log,
		Passwords: profiled{sessions, s.mirror, s.defaultHold, s.log},
		Observe:   func(result string) { s.metrics.tokens.WithLabelValues(result).Inc() },
	}
	s.handler = s.tracing.Handler(routeOfRequest, s.metrics.observed(s.log, s.cfg.AccessLog, bodyIdle, s.routes(registry, issuer)))
	return nil
}

func keyFiles(c *config.Config) auth.KeyFiles {
	return auth.KeyFiles{KeyPath: c.AuthKeyPath, CertPath: c.AuthCertPath, Service: c.ServiceName, Kind: c.AuthKeyType, Required: c.AuthKeyRequired}
}

func storeOptions(c *config.Config) store.Options {
	return store.Options{URL: c.DatabaseURL, Dir: c.DatabaseDir, SSLMode: c.DatabaseSSLMode, CAFile: c.DatabaseCAFile,
		MaxOpen: c.DatabaseMaxOpen, MaxIdle: c.DatabaseMaxIdle, Path: c.SQLitePath()}
}

// trusting makes clients of a hold whose certificate the system's roots alone do not verify.
func (s *Server) trusting(certificates string) (guarded, trusted *http.Client) {
	options := diddoc.Options{Timeout: -1, TLS: diddoc.TrustAlso([]byte(certificates))}
	to := s.metrics.upstream.Client
	return to(diddoc.NewClient(s.runtime.Policy(), options), observe.Hold), to(diddoc.NewClient(s.runtime.OperatorPolicy(), options), observe.Hold)
}

// routes is the API listener.
func (s *Server) routes(registry, tokens http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(auth.TokenPath, tokens)
	mux.Handle("GET "+jwksPath, s.keys)
	if s.clientKeys != nil {
		mux.Handle("GET "+auth.ClientKeysPath, s.clientKeys)
	}
	if s.self != nil {
		mux.Handle("GET "+diddoc.WellKnown, s.self)
	}
	host := strings.TrimPrefix(strings.TrimPrefix(s.cfg.BaseURL, "https://"), "http://")
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "This is %s, a container registry on the AT Protocol.\n\n  docker login %s\n  docker push %s/<your handle>/<image>\n",
			s.cfg.ServiceName, host, host)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not through the mux: it would clean and redirect paths, and uploads do not survive a redirect.
		if len(r.URL.Path) >= 3 && r.URL.Path[:3] == "/v2" {
			registry.ServeHTTP(w, r)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) defaultHold() syntax.DID { return syntax.DID(s.runtime.Current().DefaultHoldDID) }

// Handler serves the API listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Close releases what New opened.
func (s *Server) Close() error {
	err := s.tracing.Close()
	if err != nil {
		s.log.Warn("stopping", "error", err) // what a collector misses is no failure of ours
	}
	if s.db != nil {
		return s.db.Close()
	}
	return nil
}
