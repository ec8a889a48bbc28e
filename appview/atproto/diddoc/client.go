package diddoc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Limits of one request of [NewClient].
const (
	DefaultTimeout = 5 * time.Second
	MaxRedirects   = 2
	MaxBody        = 64 << 10 // bytes read of a document
)

// Options tune a client. The zero value is what identity documents need.
type Options struct {
	// Timeout of a whole request with its redirects and body; 0 is DefaultTimeout, negative none (for streams,
	// whose callers bound progress themselves).
	Timeout time.Duration
	// TLS is cloned; nil uses the system's roots.
	TLS *tls.Config
	// Resolver finds addresses; nil is the system's.
	Resolver *net.Resolver
}

// TrustAlso verifies certificates with the system's roots and with those in PEM.
func TrustAlso(pem []byte) *tls.Config {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
}

// NewClient is an HTTP client that reaches only what p allows. It follows at most two redirects, on the same host
// and never from https to http, ignores proxies of the environment (they would resolve names where p cannot see
// it), and keeps no cookies.
func NewClient(p Policy, o Options) *http.Client {
	timeout := o.Timeout
	switch {
	case timeout == 0:
		timeout = DefaultTimeout
	case timeout < 0:
		timeout = 0
	}
	return &http.Client{Transport: NewTransport(p, o), Timeout: timeout, CheckRedirect: sameHost}
}

// NewTransport is the guarded transport without the client's time limit and redirect rule.
func NewTransport(p Policy, o Options) http.RoundTripper {
	return &transport{plain: dialer(p, o, false), secure: dialer(p, o, true)}
}

// transport keeps one pool for http and one for https, so that the dial knows the scheme it is for.
type transport struct{ plain, secure *http.Transport }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.URL.Scheme {
	case "https":
		return t.secure.RoundTrip(r)
	case "http":
		return t.plain.RoundTrip(r)
	}
	if r.Body != nil {
		r.Body.Close()
	}
	return nil, blocked("scheme %q is refused; want https", r.URL.Scheme)
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach both pools.
func (t *transport) CloseIdleConnections() {
	t.plain.CloseIdleConnections()
	t.secure.CloseIdleConnections()
}

func dialer(p Policy, o Options, secure bool) *http.Transport {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			d := net.Dialer{
				Timeout:   DefaultTimeout,
				KeepAlive: 30 * time.Second,
				Resolver:  o.Resolver,
				// Control sees the resolved address of each attempt, just before connect(2).
				Control: func(_, resolved string, _ syscall.RawConn) error {
					to, err := netip.ParseAddrPort(resolved)
					if err != nil {
						return blocked("address %q is not an IP address and port", resolved)
					}
					return p.Check(host, to, secure)
				},
			}
			return d.DialContext(ctx, network, address)
		},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    DefaultTimeout,
		MaxResponseHeaderBytes: 32 << 10,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
	}
	if o.TLS != nil {
		tr.TLSClientConfig = o.TLS.Clone()
	}
	return tr
}

func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) > MaxRedirects:
		return &Error{class: ClassFetchFailed, msg: fmt.Sprintf("more than %d redirects", MaxRedirects)}
	case r.URL.Host != first.URL.Host:
		return blocked("a redirect to another host is refused")
	case first.URL.Scheme == "https" && r.URL.Scheme != "https":
		return blocked("a redirect from https to %s is refused", r.URL.Scheme)
	}
	return nil
}

// ReadBody reads at most limit bytes and refuses a longer body.
func ReadBody(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, classify("reading the answer", err)
	}
	if int64(len(b)) > limit {
		return nil, &Error{class: ClassInvalidDocument, msg: fmt.Sprintf("the answer is longer than %d bytes", limit)}
	}
	return b, nil
}
