package hold

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/observe"
)

// health checks storage and databases, at most once a second: anybody may ask.
type health struct {
	check func(context.Context) error

	mu  sync.Mutex
	at  time.Time
	err error
}

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) > time.Second {
		// Not the request's context: the answer is for others too.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		h.err = h.check(ctx)
		h.at = time.Now()
	}
	return h.err
}

func (s *Server) checkAll(ctx context.Context) error {
	err := errors.Join(s.driver.Check(ctx), s.ledger.Ping(ctx), s.engine.Ping(ctx))
	if err != nil {
		s.metrics.failures.Inc()
		s.log.ErrorContext(ctx, "health check", "error", err)
	}
	return err
}

// serveHealth answers /xrpc/_health.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	status := http.StatusOK
	answer := map[string]string{"version": s.version, "did": s.self.did.String()}
	if s.health.get() != nil {
		status, answer["error"], answer["message"] = http.StatusServiceUnavailable, "Unhealthy",
			"The hold's storage or database fails; its log has the reason."
	}
	xrpc.WriteJSON(w, status, answer)
}

// DebugHandler serves probes, metrics and profiles, for a listener that strangers do not reach.
func (s *Server) DebugHandler() http.Handler { return observe.Debug(s.ready, s.metrics.registry) }

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		xrpc.WriteJSON(w, http.StatusServiceUnavailable, names.Ready{Status: "stopping"})
		return
	}
	if err := s.health.get(); err != nil {
		xrpc.WriteJSON(w, http.StatusServiceUnavailable, names.Ready{Status: "storage or database fails: " + err.Error()})
		return
	}
	xrpc.WriteJSON(w, http.StatusOK, names.Ready{Status: "ok"})
}
