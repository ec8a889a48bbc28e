package diddoc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func prefixes(s ...string) func() []netip.Prefix {
	return func() (out []netip.Prefix) {
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
}

func TestWhichAddressesEachPolicyReaches(t *testing.T) {
	type tc struct {
		addr   string
		secure bool
	}
	strict, dev, operator := Policy{}, Policy{DevLoopback: true}, Policy{}.ForOperator(false)
	for _, c := range []struct {
		name    string
		policy  Policy
		host    string
		allowed []tc
		blocked []tc
	}{
		{"strangers' URLs", strict, "h.example.com",
			[]tc{{"8.8.8.8:443", true}, {"[2606:4700::1]:443", true}, {"[::ffff:8.8.8.8]:443", true}, {"[64:ff9b::808:808]:443", true}},
			[]tc{{"8.8.8.8:443", false}, {"8.8.8.8:80", false}, {"8.8.8.8:8443", true}, {"127.0.0.1:443", true}, {"10.0.0.1:443", true},
				{"169.254.169.254:443", true}, {"100.64.0.1:443", true}, {"192.168.1.1:443", true}, {"172.31.0.1:443", true},
				{"0.0.0.0:443", true}, {"224.0.0.1:443", true}, {"255.255.255.255:443", true}, {"[::]:443", true}, {"[::1]:443", true},
				{"[fe80::1]:443", true}, {"[fd00::1]:443", true}, {"[ff02::1]:443", true}, {"[::ffff:127.0.0.1]:443", true}, {"[::ffff:10.0.0.1]:443", true},
				{"[::7f00:1]:443", true}, {"[64:ff9b::7f00:1]:443", true}, {"[64:ff9b::a9fe:a9fe]:443", true}, {"[2002:7f00:1::]:443", true},
				{"[2002:a00:1::]:443", true}, {"[64:ff9b:1::a00:1]:443", true}, {"[2001::1]:443", true}}},
		{"TEST_MODE", dev, "localhost",
			[]tc{{"127.0.0.1:2583", false}, {"[::1]:80", false}, {"127.0.0.1:443", true}, {"172.18.0.3:8080", false}},
			[]tc{{"169.254.169.254:80", false}, {"8.8.8.8:80", false}}},
		{"TEST_MODE, a name with a dot", dev, "h.example.com", []tc{{"127.0.0.1:80", false}}, []tc{{"172.18.0.3:8080", false}}},
		{"an endpoint from a HoldLink", operator, "h", []tc{{"10.0.0.1:8080", false}, {"8.8.8.8:8080", false}, {"[fd00::1]:80", false}},
			[]tc{{"127.0.0.1:8080", false}, {"169.254.169.254:80", false}, {"0.0.0.0:80", false}, {"224.0.0.1:80", false}}},
		{"an endpoint from the server's environment", Policy{}.ForOperator(true), "h", []tc{{"127.0.0.1:8080", false}}, []tc{{"169.254.169.254:80", false}}},
		{"an allowed range, any port", Policy{AllowedPrivateCIDRs: prefixes("10.96.0.0/12")}, "h.svc",
			[]tc{{"10.96.0.5:2583", false}, {"10.96.0.5:443", true}, {"[::ffff:10.96.0.5]:80", false}, {"[64:ff9b::a60:5]:80", false}},
			[]tc{{"10.1.0.1:80", false}, {"127.0.0.1:80", false}}},
		{"an allowed range, one port", Policy{AllowedPrivateCIDRs: prefixes("10.0.0.0/8"), AllowedPrivatePorts: func() []int { return []int{2583} }}, "h.svc",
			[]tc{{"10.0.0.1:2583", false}, {"10.0.0.1:80", false}, {"10.0.0.1:443", true}}, []tc{{"10.0.0.1:6443", true}}},
		{"everything allowed still has no metadata service", Policy{AllowedPrivateCIDRs: prefixes("0.0.0.0/0", "::/0")}, "h",
			[]tc{{"10.0.0.1:80", false}, {"127.0.0.1:80", false}}, []tc{{"169.254.169.254:80", false}, {"[fe80::1]:80", false}, {"0.0.0.0:80", false}}},
		{"link-local by name", Policy{AllowedPrivateCIDRs: prefixes("169.254.10.0/24")}, "h", []tc{{"169.254.10.1:80", false}}, []tc{{"169.254.169.254:80", false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, a := range c.allowed {
				require.NoError(t, c.policy.Check(c.host, netip.MustParseAddrPort(a.addr), a.secure), a.addr)
			}
			for _, a := range c.blocked {
				require.Equal(t, ClassBlockedAddress, Class(c.policy.Check(c.host, netip.MustParseAddrPort(a.addr), a.secure)), a.addr)
			}
		})
	}
}

func serve(t *testing.T, h http.HandlerFunc) (didOf string, base string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	port := s.Listener.Addr().(*net.TCPAddr).Port
	return fmt.Sprintf("did:web:localhost%%3A%d", port), s.URL
}

func answer(w http.ResponseWriter, did string) {
	fmt.Fprintf(w, `{"id":%q,"service":[{"id":"#atcr_hold","type":"AtcrHoldService","serviceEndpoint":"http://localhost:1"}]}`, did)
}

func TestADocumentIsFetchedWhereTheDIDSays(t *testing.T) {
	var did string
	did, _ = serve(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, WellKnown, r.URL.Path)
		answer(w, strings.Replace(did, "%3A", ":", 1)) // a server that spells its port raw
	})
	doc, err := FetchWebDocument(t.Context(), NewClient(Policy{DevLoopback: true}, Options{}), did, "")
	require.NoError(t, err)
	require.Equal(t, did, Canonical(doc.ID))
}

func TestANameThatResolvesInwardIsBlockedBeforeAnyByteIsSent(t *testing.T) {
	did, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request came through") })
	_, err := FetchWebDocument(t.Context(), NewClient(Policy{}, Options{}), did, "")
	require.Equal(t, ClassBlockedAddress, Class(err), "%v", err)
}

func TestAnAllowedRangeTakesEffectWithoutANewClient(t *testing.T) {
	var did string
	did, base := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, did) })
	var allowed []netip.Prefix
	c := NewClient(Policy{AllowedPrivateCIDRs: func() []netip.Prefix { return allowed }}, Options{})
	_, err := FetchWebDocument(t.Context(), c, did, base)
	require.Equal(t, ClassBlockedAddress, Class(err))
	allowed = prefixes("127.0.0.0/8")()
	_, err = FetchWebDocument(t.Context(), c, did, base)
	require.NoError(t, err)
}

func TestEveryWayAFetchFailsHasItsClassAndShowsNoBytes(t *testing.T) {
	const secret = "s3cret-body"
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	hang := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}
	for name, c := range map[string]struct {
		class  string
		handle http.HandlerFunc
	}{
		"status":      {ClassBadStatus, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusInternalServerError) }},
		"not JSON":    {ClassInvalidDocument, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, secret) }},
		"too long":    {ClassInvalidDocument, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(secret, MaxBody)) }},
		"another DID": {ClassDIDMismatch, func(w http.ResponseWriter, _ *http.Request) { answer(w, "did:web:"+secret) }},
		"hangs":       {ClassTimeout, hang},
		"loops":       {ClassFetchFailed, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/"+secret, http.StatusFound) }},
		"another host": {ClassBlockedAddress, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.2/"+secret, http.StatusFound)
		}},
		"cuts the body": {ClassFetchFailed, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			fmt.Fprint(w, secret)
		}},
		"hangs up early": {ClassFetchFailed, func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(name, func(t *testing.T) {
			did, base := serve(t, c.handle)
			patience := time.Minute
			if c.class == ClassTimeout {
				patience = 50 * time.Millisecond
			}
			_, err := FetchWebDocument(t.Context(), NewClient(Policy{DevLoopback: true}, Options{Timeout: patience}), did, base)
			require.Error(t, err)
			require.Equal(t, c.class, Class(err), "%v", err)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

func TestAnUntrustedCertificateIsATLSErrorAndNotAReasonForPlainHTTP(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, "did:web:127.0.0.1") }))
	t.Cleanup(s.Close)
	_, err := FetchWebDocument(t.Context(), NewClient(Policy{DevLoopback: true}, Options{}), "did:web:127.0.0.1", s.URL)
	require.Equal(t, ClassTLSError, Class(err), "%v", err)

	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	_, err = FetchWebDocument(t.Context(), NewClient(Policy{DevLoopback: true}, Options{TLS: &tls.Config{RootCAs: pool}}), "did:web:127.0.0.1", s.URL)
	require.NoError(t, err)
}

func TestACancelledFetchIsNotRetried(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	did, _ := serve(t, func(http.ResponseWriter, *http.Request) { n++; cancel(); panic(http.ErrAbortHandler) })
	_, err := FetchWebDocument(ctx, NewClient(Policy{DevLoopback: true}, Options{}), did, "")
	require.Error(t, err)
	require.Equal(t, 1, n)
}
