package hold

import (
	"net/http"

	"atcr.io/operator/appview/observe"
)

// observed gives each request an id, the caller's when that is an AppView, and a span when there are traces.
func (s *Server) observed(mux *http.ServeMux) http.Handler {
	identified := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, observe.WithRequestID(w, r))
	})
	return s.tracing.Handler(func(r *http.Request) string {
		_, pattern := mux.Handler(r) // ours, never the request's own path
		return label(pattern)
	}, identified)
}
