package s3test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
)

// Detail is in the body of every error that a [Proxy] answers: what nobody should repeat.
const Detail = "detail-of-the-endpoint"

// Fault answers a request in place of the server, or spoils its answer.
type Fault func(w http.ResponseWriter, r *http.Request, server http.Handler)

// Proxy stands between clients and a server. It forwards what they say as it is, until it is told to spoil it.
type Proxy struct {
	Server // with the proxy's endpoint
	fault  atomic.Pointer[Fault]
	spoilt atomic.Int64
}

// Behind puts a proxy before the server.
func (s *Server) Behind(tb testing.TB) *Proxy {
	tb.Helper()
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	p := &Proxy{Server: *s}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := p.fault.Load(); f != nil {
			p.spoilt.Add(1)
			(*f)(w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	tb.Cleanup(srv.Close)
	p.Endpoint = srv.URL
	return p
}

// Spoil has every request spoilt from now on; nil: none.
func (p *Proxy) Spoil(f Fault) {
	p.spoilt.Store(0)
	if f == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&f)
}

// Spoilt is how many requests were spoilt since the last Spoil.
func (p *Proxy) Spoilt() int64 { return p.spoilt.Load() }

// Answers refuses requests with an error of S3.
func Answers(status int, code string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message><Resource>%s</Resource></Error>`, code, Detail, r.URL.Path)
	}
}

// Cut breaks connections before an answer.
func Cut(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// CutAnswer does what was asked, and breaks the connection in the middle of the answer.
func CutAnswer(w http.ResponseWriter, r *http.Request, server http.Handler) {
	rec := httptest.NewRecorder()
	server.ServeHTTP(rec, r)
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	if w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()+1))
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Hang answers nothing until whoever asked gives up.
func Hang(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // else nobody sees that the connection ends
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}
