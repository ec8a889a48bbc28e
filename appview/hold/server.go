package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/pds"
	"atcr.io/operator/appview/sqlitedb"
)

// Deps are what a hold takes from its surroundings. The zero value is right for a process of its own.
type Deps struct {
	Logger     *slog.Logger     // slog.Default() when nil
	Version    string           // told by _health; "dev" when empty
	Identities Identities       // a guarded directory of the configuration when nil
	Now        func() time.Time // time.Now when nil
	Tracing    *observe.Tracing // nil: no traces
}

// Server is a running hold. It serves requests through Handler until Close.
type Server struct {
	cfg     Config
	version string
	log     *slog.Logger
	now     func() time.Time

	self       self
	plcPending bool // the DID document is still to be compared
	plcChanged bool // and it was updated: the firehose is still to hear of it

	engine  *pds.Engine
	repo    http.Handler // the embedded PDS's own methods
	roster  *roster
	tokens  *tokens
	reader  *publishedReader
	driver  storage.Driver
	ledger  *ledger.Ledger
	tiers   tiers
	metrics *metrics
	tracing *observe.Tracing
	health  *health
	pulls   *pulls
	handler http.Handler

	collecting  sync.Mutex
	sweeping    sync.Mutex
	crewMu      sync.Mutex
	statsMu     sync.Mutex
	scans       chan struct{} // has room for one look at all records
	tids        *syntax.TIDClock
	uploadLocks *keyed // by upload id
	userLocks   *keyed // by DID: one change of a user's layer records at a time
	blobLocks   *keyed // by digest: completions share, a removal is alone
	spaceLocks  *keyed // by DID: one look for space at a time
	scanLocks   *keyed // by DID: one look at all records, or wait for it, at a time
	arriving    *arriving
	unclear     *lru.Cache[digest.Digest, time.Time] // blobs whose completion failed last then, and may be there or come all the same

	removeTime, completeTime time.Duration

	draining atomic.Bool
	stop     context.CancelFunc
	done     sync.WaitGroup
	closers  []func() error // in the order of opening
}

// New opens a hold on its database directory and storage: it makes its key, its repository and its captain and owner
// records the first time. The configuration is validated first. Only one hold can use a database directory at a time.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	s, err := newServer(cfg, deps)
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx, deps.Identities); err != nil {
		if sqlitedb.DiskFull(err) {
			err = fmt.Errorf("the hold's disk is full: make it larger, or delete what else is on it: %w", err)
		}
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

// newServer is a hold of which nothing is open yet.
func newServer(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("hold configuration:\n%w", err)
	}
	s := &Server{
		cfg: cfg, version: deps.Version, log: deps.Logger, now: deps.Now, tracing: deps.Tracing,
		tids: syntax.NewTIDClock(0), uploadLocks: newKeyed(), userLocks: newKeyed(), blobLocks: newKeyed(), spaceLocks: newKeyed(), scanLocks: newKeyed(),
		scans: make(chan struct{}, 1), arriving: newArriving(), removeTime: removeTime, completeTime: completeTime, stop: func() {},
	}
	s.unclear, _ = lru.New[digest.Digest, time.Time](10_000)
	s.tiers, _ = parseTiers(cfg) // it is valid
	s.pulls = newPulls()
	if s.log == nil {
		s.log = slog.Default()
	}
	s.log = observe.Logger(s.log)
	if s.version == "" {
		s.version = "dev"
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// open opens everything step by step; what it opened is in closers.
func (s *Server) open(ctx context.Context, ids Identities) error {
	err := s.openDatabases(ctx)
	if err != nil {
		return err
	}
	if err := s.identify(ctx); err != nil {
		return err
	}
	if files.ReadableByAll(s.cfg.keyPath()) {
		s.log.WarnContext(ctx, "everybody on this machine may read the hold's key; take the right away (chmod o-r, or defaultMode 0440 of its volume)",
			"file", s.cfg.keyPath())
	}
	if s.driver, err = openDriver(s.cfg, s.self.url); err != nil {
		return err
	}
	s.metrics = newMetrics(s.version, s.tracing)
	s.health = &health{check: s.checkAll}
	s.roster = &roster{engine: s.engine, did: s.self.did}
	if ids == nil {
		ids = s.cfg.directory(s.log, func(c *http.Client) *http.Client { return s.metrics.upstream.Client(c, observe.Identity) })
	}
	s.tokens = newTokens(s.self.did, s.self.key, ids)
	s.reader = s.newPublishedReader(ids)
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	if err := s.restoreLost(ctx); err != nil {
		return err
	}
	s.announce(ctx)
	s.repo = s.embeddedPDS()
	s.handler = s.observed(s.routes())

	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { background.Keep(loop, s.log, "sweep", func() {}, s.sweepLoop) })
	s.done.Go(func() { background.Keep(loop, s.log, "statistics", func() {}, s.statsLoop) })
	s.requestCrawls(loop)
	if s.plcPending {
		s.done.Go(func() { background.Keep(loop, s.log, "DID document", func() {}, s.retryPLC) })
	}
	if s.cfg.GCEnabled {
		s.done.Go(func() { background.Keep(loop, s.log, "garbage collection", func() {}, s.collectLoop) })
	}
	return nil
}

// openDatabases opens what lies in the database directory, for this process alone.
func (s *Server) openDatabases(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.DatabaseDir, 0o700); err != nil {
		return fmt.Errorf("database directory: %w", err)
	}
	unlock, err := lockDir(s.cfg.DatabaseDir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, unlock)
	if s.engine, err = pds.Open(ctx, pds.Config{Dir: s.cfg.pdsDir(), Logger: s.log}); err != nil {
		return fmt.Errorf("open the embedded PDS: %w", err)
	}
	s.closers = append(s.closers, s.engine.Close)
	if s.ledger, err = ledger.Open(ctx, s.cfg.ledgerPath()); err != nil {
		return err
	}
	s.closers = append(s.closers, s.ledger.Close)
	return nil
}

// directory resolves the DIDs of callers behind the configured policy. The PLC directory is the operator's choice.
// observed is put around the clients.
func (c Config) directory(log *slog.Logger, observed func(*http.Client) *http.Client) *atproto.Directory {
	policy := c.policy()
	return atproto.NewDirectory(atproto.DirectoryConfig{
		PLCURL:   c.PLCURL,
		Resolver: net.DefaultResolver,
		Operator: observed(diddoc.NewClient(policy.ForOperator(true), diddoc.Options{})),
		Guarded:  observed(diddoc.NewClient(policy, diddoc.Options{})),
		Logger:   log,
	})
}

// routes is the whole HTTP surface.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	const x = "/xrpc/"
	handlers := map[string]http.HandlerFunc{
		"GET " + diddoc.WellKnown:                         s.serveDocument,
		"GET /.well-known/atproto-did":                    s.serveAtprotoDID,
		"GET " + x + "_health":                            s.serveHealth,
		"GET " + x + "com.atproto.identity.resolveHandle": s.resolveHandle,
		"GET " + x + methodGetBlob:                        s.answer(s.getBlob),
	}
	for name, h := range s.queries() {
		handlers["GET "+x+name] = s.answer(h)
	}
	for name, h := range s.procedures() {
		handlers["POST "+x+name] = s.answer(h)
	}
	for pattern, h := range handlers {
		mux.Handle(pattern, s.metrics.measured(label(pattern), timely(h)))
	}
	// Bodies of blobs and repositories take as long as they move.
	if h, ok := s.driver.(storage.Handler); ok {
		for pattern, h := range h.Routes() {
			mux.Handle(pattern, s.metrics.measured(label(pattern), s.touching(h)))
		}
	}
	if _, ok := s.driver.(storage.Receiver); ok {
		mux.Handle("POST "+x+methodPutBlob, s.metrics.measured(methodPutBlob, s.answer(s.putBlob)))
	}
	mux.Handle(x, s.metrics.measured("pds", s.reloading(s.repo)))
	mux.Handle("/", s.metrics.measured("other", http.HandlerFunc(notFound)))
	return mux
}

type method = func(http.ResponseWriter, *http.Request) error

// queries are the io.atcr.* methods that are asked by GET; their lexicons are in atproto/lexicons.
func (s *Server) queries() map[string]method {
	return map[string]method{
		"io.atcr.hold.getQuota":             s.getQuota,
		"io.atcr.hold.listTiers":            s.listTiers,
		"io.atcr.hold.exportUserData":       s.exportUserData,
		"io.atcr.hold.getLayersForManifest": s.getLayersForManifest,
	}
}

// procedures are those that are called by POST.
func (s *Server) procedures() map[string]method {
	return map[string]method{
		"io.atcr.hold.reserveManifest":  s.reserveManifest,
		methodUpdateCrewTier:            s.updateCrewTier,
		"io.atcr.hold.deleteUserData":   s.deleteUserData,
		"io.atcr.hold.requestCrew":      s.requestCrew,
		"io.atcr.hold.initiateUpload":   s.initiateUpload,
		"io.atcr.hold.getPartUploadUrl": s.getPartUploadURL,
		"io.atcr.hold.completeUpload":   s.completeUpload,
		"io.atcr.hold.abortUpload":      s.abortUpload,
		"io.atcr.hold.deleteBlob":       s.deleteBlob,
		"io.atcr.hold.notifyManifest":   s.notifyManifest,
	}
}

// Handler is the hold's public HTTP surface.
func (s *Server) Handler() http.Handler { return s.handler }

// DID is the hold's did:web or did:plc, in canonical spelling.
func (s *Server) DID() syntax.DID { return s.self.did }

// Close stops the background work and closes everything. Requests must have ended before.
func (s *Server) Close(context.Context) error {
	s.stop()
	s.done.Wait()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// answer turns an error into its XRPC form, and logs those that are ours.
func (s *Server) answer(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		if e := xrpc.AsError(err); e.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
			s.log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		} else {
			s.log.DebugContext(r.Context(), "request refused", "path", r.URL.Path, "status", e.Status, "error", err)
		}
		xrpc.WriteError(w, err)
	}
}

func notFound(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("This is an ATCR hold: blob storage for container images. Registries use it; /.well-known/did.json names it.\n"))
		return
	}
	xrpc.WriteError(w, xrpc.Errorf(http.StatusNotFound, "NotFound", "There is nothing here; a hold answers /xrpc/ and /.well-known/did.json."))
}
