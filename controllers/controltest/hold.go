package controltest

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// Hold is a server that looks like a hold to the operator: it has a did.json and a health.
type Hold struct {
	URL    string // http://127.0.0.1:port
	DID    string // did:web:127.0.0.1%3Aport, unless changed
	Asked  atomic.Int64
	status atomic.Int64
	did    atomic.Value
	page   atomic.Bool
}

// NewHold starts a hold on this machine that is well.
func (e *Env) NewHold() *Hold {
	e.Helper()
	h := &Hold{}
	h.status.Store(http.StatusOK)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/did.json", func(w http.ResponseWriter, _ *http.Request) {
		if h.page.Load() {
			fmt.Fprint(w, "<html><body>One moment, please</body></html>")
			return
		}
		fmt.Fprintf(w, `{"id":%q,"service":[{"id":"#atcr_hold","type":"AtcrHoldService","serviceEndpoint":%q}]}`, h.did.Load(), h.URL)
	})
	mux.HandleFunc("GET /xrpc/_health", func(w http.ResponseWriter, _ *http.Request) {
		h.Asked.Add(1)
		w.WriteHeader(int(h.status.Load()))
		fmt.Fprint(w, `{"version":"test"}`)
	})
	s := httptest.NewServer(mux)
	e.Cleanup(s.Close)
	h.URL = s.URL
	h.DID = fmt.Sprintf("did:web:127.0.0.1%%3A%d", s.Listener.Addr().(*net.TCPAddr).Port)
	h.did.Store(h.DID)
	return h
}

// Fail makes health checks answer 503, or 200 again.
func (h *Hold) Fail(yes bool) {
	if yes {
		h.status.Store(http.StatusServiceUnavailable)
	} else {
		h.status.Store(http.StatusOK)
	}
}

// Claim makes the did.json name another DID.
func (h *Hold) Claim(did string) { h.did.Store(did) }

// BehindAPage makes a proxy answer for it with 200 and a page of its own.
func (h *Hold) BehindAPage() { h.page.Store(true) }
