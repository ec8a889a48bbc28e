// Package world is a whole ATCR network in one process: a development PLC directory and PDS with accounts, a hold, and
// an AppView, on embedded storage. `make run` and the tests start it; nothing of it ships in a production binary.
package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/server"
)

// Options of a world. Addresses that are empty take a free port on loopback.
type Options struct {
	Dir         string           // keeps everything; it must exist
	Accounts    []devnet.Account // the first is the hold's captain; alice.test and bob.test when empty
	AppViewAddr string
	DebugAddr   string
	HoldAddr    string
	DevnetAddr  string
	AppViewEnv  map[string]string // over the world's own variables
	HoldEnv     map[string]string
	Runtime     *names.Runtime // the AppView's runtime file; none when nil
	Proxy       bool           // the AppView streams blobs, as for a hold inside a cluster
	WrapPDS     func(http.Handler) http.Handler
	WrapHold    func(http.Handler) http.Handler
	Now         func() time.Time // the AppView's clock; time.Now when nil
	NoAppView   bool             // the caller starts it, with AppViewEnviron
	HoldTracing *observe.Tracing
	Log         *slog.Logger
}

// World is a running network.
type World struct {
	Devnet   *devnet.Net
	Hold     *hold.Server
	HoldURL  string
	AppView  *server.Server // nil with NoAppView
	URL      string         // of the AppView
	DebugURL string

	opts    Options
	log     *slog.Logger
	environ map[string]string
	closers []func() error // in the order of opening
	holdSrv *http.Server
}

// Start starts everything; Close stops it.
func Start(ctx context.Context, o Options) (*World, error) {
	if len(o.Accounts) == 0 {
		o.Accounts = []devnet.Account{{Handle: "alice.test"}, {Handle: "bob.test"}}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &World{opts: o, log: o.Log}
	for _, step := range []func(context.Context) error{w.startDevnet, w.startHold, w.startAppView} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// Close stops everything, the AppView first.
func (w *World) Close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i]())
	}
	w.closers = nil
	return errors.Join(errs...)
}

// Now is the AppView's clock.
func (w *World) Now() func() time.Time {
	if w.opts.Now != nil {
		return w.opts.Now
	}
	return time.Now
}

// Host is the AppView's host:port, as in image references.
func (w *World) Host() string { return w.URL[len("http://"):] }

// HoldDID is the hold's DID.
func (w *World) HoldDID() syntax.DID { return w.Hold.DID() }

func (w *World) startDevnet(ctx context.Context) (err error) {
	w.Devnet, err = devnet.Start(ctx, devnet.Config{Addr: w.opts.DevnetAddr, Dir: filepath.Join(w.opts.Dir, "devnet"),
		Accounts: w.opts.Accounts, Wrap: w.opts.WrapPDS, Logger: w.log.With("part", "devnet")})
	if err == nil {
		w.closers = append(w.closers, w.Devnet.Close)
	}
	return err
}

func (w *World) startHold(ctx context.Context) error {
	l, err := listen(w.opts.HoldAddr)
	if err != nil {
		return fmt.Errorf("start hold: %w", err)
	}
	w.HoldURL = holdURL(l)
	cfg, err := hold.LoadFrom(w.holdEnv(filepath.Join(w.opts.Dir, "hold"), w.HoldURL, w.opts.HoldEnv))
	if err == nil {
		w.Hold, err = hold.New(ctx, cfg, hold.Deps{Logger: w.log.With("part", "hold"), Tracing: w.opts.HoldTracing})
	}
	if err != nil {
		l.Close()
		return fmt.Errorf("start hold: %w", err)
	}
	w.closers = append(w.closers, func() error { return w.Hold.Close(context.Background()) })
	w.serveHold(l)
	return nil
}

func holdURL(l net.Listener) string { return "http://localhost:" + port(l) }

// holdEnv is the environment of a hold of this world that keeps everything in dir; over goes over it.
func (w *World) holdEnv(dir, url string, over map[string]string) map[string]string {
	env := map[string]string{
		names.HoldPublicURL: url, names.HoldOwner: string(w.Devnet.Accounts()[0].DID),
		names.HoldPublic: "true", names.HoldAllowAllCrew: "true", names.HoldPLCURL: w.Devnet.URL(), names.TestMode: "true",
		names.HoldDatabaseDir: dir, names.StorageDriver: "filesystem", names.StorageRootDir: filepath.Join(dir, "blobs"),
		names.HoldStatsInterval: "1s", // whoever tries it out sees a pull counted
	}
	maps.Copy(env, over)
	return env
}

// AnotherHold starts one more hold of the first account, which keeps everything in dir: env goes over the variables of
// the world's own. addr is where it listens, a free port when empty. Stop it before the world.
func (w *World) AnotherHold(ctx context.Context, dir, addr string, env map[string]string) (h *hold.Server, at string, stop func() error, err error) {
	l, err := listen(addr)
	if err != nil {
		return nil, "", nil, fmt.Errorf("start hold: %w", err)
	}
	cfg, err := hold.LoadFrom(w.holdEnv(dir, holdURL(l), env))
	if err == nil {
		h, err = hold.New(ctx, cfg, hold.Deps{Logger: w.log.With("part", "another hold")})
	}
	if err != nil {
		l.Close()
		return nil, "", nil, fmt.Errorf("start hold: %w", err)
	}
	srv := &http.Server{Handler: h.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelDebug)}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }() // ends by Close
	return h, l.Addr().String(), func() error {
		err := srv.Close()
		<-served
		return errors.Join(err, h.Close(context.Background()))
	}, nil
}

func (w *World) serveHold(l net.Listener) {
	handler := w.Hold.Handler()
	if w.opts.WrapHold != nil {
		handler = w.opts.WrapHold(handler)
	}
	w.holdSrv = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelDebug)}
	srv := w.holdSrv
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }() // ends by Close
	w.closers = append(w.closers, func() error { err := srv.Close(); <-served; return err })
}

// Environ is the AppView's environment in this world.
func (w *World) Environ() []string {
	var out []string
	for k, v := range w.environ {
		out = append(out, k+"="+v)
	}
	return out
}

func (w *World) startAppView(ctx context.Context) error {
	api, err := listen(w.opts.AppViewAddr)
	if err != nil {
		return fmt.Errorf("start AppView: %w", err)
	}
	debug, err := listen(w.opts.DebugAddr)
	if err != nil {
		api.Close()
		return fmt.Errorf("start AppView: %w", err)
	}
	w.URL, w.DebugURL = "http://127.0.0.1:"+port(api), "http://127.0.0.1:"+port(debug)
	dir := filepath.Join(w.opts.Dir, "appview")
	w.environ = map[string]string{
		names.HTTPAddr: api.Addr().String(), names.DebugAddr: debug.Addr().String(), names.BaseURL: w.URL,
		names.DefaultHoldDID: string(w.Hold.DID()), names.TestMode: "true",
		names.AllowedHosts: "localhost:" + port(api),
		names.PLCURL:       w.Devnet.URL(), names.HandleResolverURL: w.Devnet.URL(),
		names.AuthKeyPath: filepath.Join(dir, names.FileSigningKey), names.AuthCertPath: filepath.Join(dir, names.FileSigningCert),
		names.DIDKeyPath:     filepath.Join(dir, "did.key"),
		names.SealingKeyPath: filepath.Join(dir, names.FileSealingKey), names.UIDatabasePath: filepath.Join(dir, "ui.db"),
	}
	if w.opts.Proxy && w.opts.Runtime == nil {
		w.opts.Runtime = &names.Runtime{Version: names.RuntimeVersion, Holds: []names.Hold{{
			DID: string(w.Hold.DID()), Endpoint: strings.Replace(w.HoldURL, "localhost", "127.0.0.1", 1), Download: names.Proxy}}}
	}
	if w.opts.Runtime != nil {
		path := filepath.Join(w.opts.Dir, names.FileRuntime)
		b, err := json.Marshal(w.opts.Runtime)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("write the runtime file: %w", err), api.Close(), debug.Close())
		}
		w.environ[names.RuntimeFile] = path
	}
	maps.Copy(w.environ, w.opts.AppViewEnv)
	if w.opts.NoAppView {
		return errors.Join(api.Close(), debug.Close())
	}
	cfg, err := config.Load(w.Environ())
	if err == nil {
		cfg.Warnings = nil // TEST_MODE is what this world is
		w.AppView, err = server.NewAt(ctx, cfg, w.log.With("part", "appview"), w.Now())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("start AppView: %w", err), api.Close(), debug.Close())
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- w.AppView.Serve(serving, api, debug) }()
	w.closers = append(w.closers, w.AppView.Close, func() error { stop(); return <-served })
	return nil
}

func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	return net.Listen("tcp", addr)
}

func port(l net.Listener) string {
	_, p, _ := net.SplitHostPort(l.Addr().String()) // a listener's address always has one
	return p
}
