package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"atcr.io/operator/appview/framing"
)

// Run serves a hold on its configured addresses until the context ends, then drains requests in flight for the
// configured grace. It returns nil after a clean stop.
func Run(ctx context.Context, cfg Config, deps Deps) (err error) {
	s, err := New(ctx, cfg, deps)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	return s.Serve(ctx)
}

// Serve is Run for a hold that is open already. It does not close it.
func (s *Server) Serve(ctx context.Context) error {
	public, err := net.Listen("tcp", s.cfg.HTTPAddr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() { _ = public.Close() }() // the server has closed it already, unless we failed before
	debug, err := net.Listen("tcp", s.cfg.DebugAddr)
	if err != nil {
		return fmt.Errorf("listen for probes: %w", err)
	}
	defer func() { _ = debug.Close() }()
	control, err := s.cfg.listenControl()
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }()

	main, probes := httpServer(framing.Last(s.Handler()), s.log), httpServer(s.DebugHandler(), s.log)
	commands := httpServer(s.control(), s.log)
	failed := make(chan error, 3)
	go func() { failed <- main.Serve(framing.Heard(public)) }()
	go func() { failed <- probes.Serve(debug) }()
	go func() { failed <- commands.Serve(control) }()
	s.log.InfoContext(ctx, "hold is serving", "did", s.DID(), "url", s.self.url, "address", public.Addr().String(),
		"debug", debug.Addr().String(), "storage", s.cfg.StorageDriver, "version", s.version)

	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		s.log.InfoContext(ctx, "stopping", "grace", s.cfg.ShutdownGrace)
		err = nil
	}
	s.draining.Store(true)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownGrace)
	defer cancel()
	if e := main.Shutdown(grace); e != nil {
		s.log.WarnContext(ctx, "requests were cut off at the end of the grace", "error", e)
		_ = main.Close()
	}
	_ = probes.Close()
	_ = commands.Close()
	return err
}

// httpServer has no limit on whole requests, as blobs take as long as they move; their handlers move deadlines.
func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
