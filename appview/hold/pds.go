package hold

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/hold/slow"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/pds"
)

// embeddedPDS serves com.atproto.{repo,sync,server}.* over the hold's own repository. Captain and admins may write.
func (s *Server) embeddedPDS() http.Handler {
	return bySelf(pds.NewHandler(s.engine, pds.HandlerConfig{
		ServiceDID: s.self.did,
		Authorize: func(r *http.Request) (syntax.DID, error) {
			if _, err := s.need(r, strings.TrimPrefix(r.URL.Path, "/xrpc/"), crewAdmin); err != nil {
				e := xrpc.AsError(err)
				return "", &pds.XRPCError{Status: e.Status, Name: e.Name, Message: e.Message}
			}
			return s.self.did, nil
		},
		ResolveHandle: func(_ context.Context, h syntax.Handle) (syntax.DID, error) {
			if strings.EqualFold(h.String(), s.self.handle) {
				return s.self.did, nil
			}
			return "", pds.ErrRepoNotFound
		},
		Identity: func(context.Context, syntax.DID) (string, any, error) {
			doc, err := s.self.document()
			return s.self.handle, doc, err
		},
	}))
}

// bySelf spells the DIDs of a query as the repository has them: an unescaped did:web arrives with a bare port.
func bySelf(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		changed := false
		for _, name := range []string{"did", "repo"} {
			if c := diddoc.Canonical(q.Get(name)); c != q.Get(name) {
				q.Set(name, c)
				changed = true
			}
		}
		if changed {
			r = r.Clone(r.Context())
			r.URL.RawQuery = q.Encode()
		}
		next.ServeHTTP(w, r)
	})
}

// reloading lets a write to the repository take effect on who may do what. Bodies and
// answers may be slow, but must move.
func (s *Server) reloading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = slow.Reader(w, r.Body, requestTime)
		rec := &recorder{ResponseWriter: slow.Writer(w, requestTime), status: http.StatusOK}
		next.ServeHTTP(rec, r)
		if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/xrpc/com.atproto.repo.") || rec.status >= 300 {
			return
		}
		// Although the client may be gone: a removed member must lose access at once.
		if err := s.roster.reload(context.WithoutCancel(r.Context())); err != nil {
			s.log.ErrorContext(r.Context(), "reloading captain and crew", "error", err)
		}
	})
}

// requestTime bounds the reading of a request without a blob body.
const requestTime = 30 * time.Second

// timely cuts off clients that send a small request slowly.
func timely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestTime)) // a writer without deadlines has none
		next.ServeHTTP(w, r)
	})
}

// label is the metrics label of a route: the method's name.
func label(pattern string) string {
	_, path, _ := strings.Cut(pattern, " ")
	return path[strings.LastIndex(path, "/")+1:]
}
