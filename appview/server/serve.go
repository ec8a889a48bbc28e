package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/accesslog"
	"atcr.io/operator/appview/framing"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 90 * time.Second // an idle connection costs 20 KB
	maxHeader     = 32 << 10
)

// Run serves on the configured addresses until ctx ends, then drains for the configured delay and grace. It returns nil
// after a clean stop.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) (err error) {
	started := time.Now()
	s, err := New(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	api, err := net.Listen("tcp", cfg.HTTPAddr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	debug, err := net.Listen("tcp", cfg.DebugAddr)
	if err != nil {
		api.Close()
		return fmt.Errorf("listen for probes: %w", err)
	}
	log.InfoContext(ctx, "AppView is serving", "address", api.Addr().String(), "debug", debug.Addr().String(),
		"url", cfg.BaseURL, "service", cfg.ServiceName, "hold", s.defaultHold(), "after", time.Since(started).Round(time.Millisecond))
	return s.Serve(ctx, api, debug)
}

// Serve answers on two listeners until ctx ends. From then on it is not ready; after the configured delay it stops to
// accept connections, and lets requests in flight come to their end. debug may be nil.
func (s *Server) Serve(ctx context.Context, api, debug net.Listener) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var jobs sync.WaitGroup
	all := map[string]func(context.Context){"files": s.watcher.Run, "sweep": s.sweep, "pulls": s.pulls.Run,
		"outbox": func(ctx context.Context) { s.mirror.Deliver(ctx, s.holds) }}
	if s.backups != nil {
		all["backup"] = s.backups.Run
	}
	for name, job := range all {
		jobs.Go(func() { background.Keep(serving, s.log, name, s.metrics.panics.WithLabelValues(name).Inc, job) })
	}
	defer jobs.Wait()
	defer stop()

	api = framing.Heard(api)
	if s.certificate != nil {
		api = tls.NewListener(api, s.certificate.config())
	}
	main, probes := s.httpServer(framing.Last(s.handler)), s.httpServer(s.DebugHandler())
	failed := make(chan error, 2)
	go func() { failed <- main.Serve(api) }()
	if debug != nil {
		go func() { failed <- probes.Serve(debug) }()
	}
	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		s.log.Info("stopping", "delay", s.cfg.ShutdownDelay, "grace", s.cfg.ShutdownGrace)
		s.draining.Store(true)
		select {
		case err = <-failed:
			err = fmt.Errorf("serve: %w", err)
		case <-time.After(s.cfg.ShutdownDelay):
		}
	}
	s.draining.Store(true)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownGrace)
	defer cancel()
	if e := main.Shutdown(grace); e != nil {
		s.log.Warn("requests were cut off at the end of the grace", "error", e)
		main.Close()
	}
	probes.Close()
	_, flush := accesslog.Requests(s.log)
	flush()
	return err
}

// httpServer has no limit on whole requests: blobs take as long as they move, and their handlers move the deadline.
func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
}

// sweep forgets uploads that nobody continued, PDS sessions that can no longer be refreshed, old refresh tokens and
// identities, and manifest bytes that are not in use.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := s.uploads.Sessions.Forget(ctx, time.Now().Add(-uploadIdle))
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sweep", "error", err)
		} else if n > 0 {
			s.log.InfoContext(ctx, "idle uploads forgotten", "count", n)
		}
		_, err = s.db.SweepSessions(ctx, time.Now())
		if err = errors.Join(err, s.refresh.Sweep(ctx), s.mirror.Sweep(ctx), s.db.SweepIdentities(ctx, time.Now().Add(-atproto.StaleTTL))); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sweep", "error", err)
		}
	}
}
