package server

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"atcr.io/operator/appview/config/names"
)

// debugHandler is the debug listener: probes, metrics, profiles. It is not for the public.
func (s *Server) debugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+names.PathLive, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET "+names.PathReady, s.ready)
	mux.Handle("GET "+names.PathMetrics, promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// DebugHandler serves the debug listener.
func (s *Server) DebugHandler() http.Handler { return s.debugHandler() }

// ready names the keys and the runtime file that are in force. A hold or PDS that is down does not make the server
// unready: what is cached is still served.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	out := names.Ready{Status: "ok", KeySetHash: s.keys.Set().Hash(), RuntimeHash: s.runtime.Current().Hash}
	status := http.StatusOK
	switch err := s.db.Ping(r.Context()); {
	case s.draining.Load():
		out.Status, status = "stopping", http.StatusServiceUnavailable
	case err != nil:
		s.log.WarnContext(r.Context(), "not ready", "error", err)
		out.Status, status = "the database does not answer", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // the prober may have left
}
