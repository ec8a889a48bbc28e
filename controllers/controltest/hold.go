package controltest

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// Hold is a server that looks like a hold to the operator: it has a did.json and a health.
type Hold struct {
	URL    string // http://127.0.0.1:port, or https
	DID    string // did:web:127.0.0.1%3Aport, unless changed
	CA     string // PEM: whom to trust for its certificate
	Asked  atomic.Int64
	status atomic.Int64
	did    atomic.Value
	page   atomic.Bool
	health atomic.Pointer[http.HandlerFunc]
}

// NewHold starts a hold on this machine that is well. It speaks TLS too, on the same port, with a certificate that nobody
// trusts but by [Hold.CA].
func (e *Env) NewHold() *Hold {
	e.Helper()
	return e.newHold("http")
}

// NewSecureHold starts a hold whose URL is that of its TLS.
func (e *Env) NewSecureHold() *Hold {
	e.Helper()
	return e.newHold("https")
}

func (e *Env) newHold(scheme string) *Hold {
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
	mux.HandleFunc("GET /xrpc/_health", func(w http.ResponseWriter, r *http.Request) {
		h.Asked.Add(1)
		if answer := h.health.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		w.WriteHeader(int(h.status.Load()))
		fmt.Fprint(w, `{"version":"test"}`)
	})
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // whoever refuses the certificate is no news
	secure := e.selfSigned()
	s.Listener = both{s.Listener, secure}
	h.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificates[0].Certificate[0]}))
	h.URL = scheme + "://" + s.Listener.Addr().String()
	h.DID = fmt.Sprintf("did:web:127.0.0.1%%3A%d", s.Listener.Addr().(*net.TCPAddr).Port)
	h.did.Store(h.DID)
	s.Start()
	e.Cleanup(s.Close)
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

// Answer makes health checks be answered by health.
func (h *Hold) Answer(health http.HandlerFunc) { h.health.Store(&health) }

// Claim makes the did.json name another DID.
func (h *Hold) Claim(did string) { h.did.Store(did) }

// BehindAPage makes a proxy answer for it with 200 and a page of its own.
func (h *Hold) BehindAPage() { h.page.Store(true) }

// selfSigned is a configuration with a certificate that nobody trusts.
func (e *Env) selfSigned() *tls.Config {
	e.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	return s.TLS.Clone()
}

// both accepts connections that speak TLS, and others.
type both struct {
	net.Listener
	config *tls.Config
}

// Accept implements net.Listener.
func (b both) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &either{Conn: c, config: b.config}, nil
}

// either is a connection whose first byte says which it is.
type either struct {
	net.Conn
	config *tls.Config
	spoken net.Conn // nil: nothing was read yet
}

const handshake = 0x16 // the type of the first TLS record

// Read implements net.Conn. The server reads before it writes.
func (c *either) Read(p []byte) (int, error) {
	if c.spoken == nil {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c.Conn, first); err != nil {
			return 0, err
		}
		c.spoken = &begun{Conn: c.Conn, first: first}
		if first[0] == handshake {
			c.spoken = tls.Server(c.spoken, c.config)
		}
	}
	return c.spoken.Read(p)
}

// Write implements net.Conn.
func (c *either) Write(p []byte) (int, error) {
	if c.spoken == nil {
		return c.Conn.Write(p)
	}
	return c.spoken.Write(p)
}

// begun is a connection of which some was read.
type begun struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (c *begun) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
