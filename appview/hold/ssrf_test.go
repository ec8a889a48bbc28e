package hold_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// inside is a service in the hold's network that a stranger must not reach. It counts connections.
type inside struct {
	net.Listener
	accepted atomic.Int64
}

func (i *inside) Accept() (net.Conn, error) {
	c, err := i.Listener.Accept()
	if err == nil {
		i.accepted.Add(1)
	}
	return c, err
}

func (i *inside) port() string { return fmt.Sprint(i.Addr().(*net.TCPAddr).Port) }

func startInside(t *testing.T) *inside {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.66:0")
	require.NoError(t, err)
	i := &inside{Listener: l}
	s := &http.Server{Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(i) }()
	t.Cleanup(func() { s.Close(); <-done })
	return i
}

// production is a hold that is not in test mode, and may reach the ranges besides public addresses.
func production(ranges ...string) func(*hold.Config) {
	return func(c *hold.Config) {
		c.Public, c.TestMode, c.PublicURL = true, false, "https://hold.example.com"
		for _, r := range ranges {
			c.AllowedPrivateCIDRs = append(c.AllowedPrivateCIDRs, netip.MustParsePrefix(r))
		}
	}
}

// callAs sends a token that names an issuer, with a signature that nobody made.
func (w *world) callAs(issuer string) reply {
	w.t.Helper()
	now := time.Now()
	token := forge(w.t, object{"alg": "ES256K", "typ": "JWT"}, object{"iss": issuer, "aud": w.hold.DID(), "iat": now.Unix(),
		"exp": now.Add(time.Minute).Unix(), "jti": "x"}, func([]byte) []byte { return make([]byte, 64) })
	return w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.initiateUpload", token, object{"digest": "x"})
}

// collectFrom lets the hold read the manifests of carol, whose DID document now names another PDS.
func (w *world) collectFrom(endpoint string) {
	w.t.Helper()
	w.addCrew(carol, "blob:write")
	require.Equal(w.t, http.StatusOK, w.complete(carol, w.begin(carol), digest.FromString("")).status)
	did := w.did(carol).String()
	between := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.TrimPrefix(r.URL.Path, "/") != did {
			next.ServeHTTP(rw, r)
			return
		}
		fmt.Fprintf(rw, `{"id":%q,"alsoKnownAs":["at://carol.test"],"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":%q}]}`, did, endpoint)
	}
	w.between.Store(&between)
	w.restart(nil) // forgets what it knew of her
	found, err := w.hold.CollectGarbage(w.t.Context(), true)
	require.NoError(w.t, err)
	require.Equal(w.t, 1, found.Unreadable)
}

// chosen are the places where somebody else than the operator chooses a URL that the hold asks.
var chosen = map[string]func(w *world, in *inside){
	"the issuer of a token": func(w *world, in *inside) {
		require.GreaterOrEqual(w.t, w.callAs("did:web:127.0.0.66%3A"+in.port()).status, 400)
	},
	"the PDS of a user": func(w *world, in *inside) { w.collectFrom("http://127.0.0.66:" + in.port()) },
	"the PDS of a user, as an IPv4 address in IPv6": func(w *world, in *inside) {
		w.collectFrom("http://[::ffff:127.0.0.66]:" + in.port())
	},
	"the PDS of a user, by https": func(w *world, in *inside) { w.collectFrom("https://127.0.0.66:" + in.port()) },
}

func TestNoURLOfAStrangerLeadsTheHoldInside(t *testing.T) {
	for name, try := range chosen {
		t.Run(name, func(t *testing.T) {
			in := startInside(t)
			try(newWorld(t, production("127.0.0.1/32", "::1/128")), in)
			require.Zero(t, in.accepted.Load(), "a connection was made")
		})
	}
}

// The same requests reach the address where the operator has allowed it: the test above can fail.
func TestAnAllowedRangeIsReachedByTheHold(t *testing.T) {
	for name, try := range chosen {
		t.Run(name, func(t *testing.T) {
			in := startInside(t)
			try(newWorld(t, production("127.0.0.0/8", "::1/128")), in)
			require.Positive(t, in.accepted.Load(), "no connection was made")
		})
	}
}

func TestIssuersOfAddressesThatNoServerHasAreRefusedAtOnce(t *testing.T) {
	w := newWorld(t, production())
	for _, host := range []string{"169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "0.0.0.0", "localhost", "localhost%3A22"} {
		a := w.callAs("did:web:" + host)
		require.Equal(t, http.StatusUnauthorized, a.status, "%s: %s", host, a.body)
		require.NotContains(t, string(a.body), "dial")
	}
}

// Redirects are followed on the same host only, also where the other one might be reached.
func TestRedirectsDoNotLeadTheHoldElsewhere(t *testing.T) {
	in := startInside(t)
	asked := make(chan string, 100)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		http.Redirect(w, r, "http://127.0.0.66:"+in.port()+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(elsewhere.Close)
	port := elsewhere.Listener.Addr().(*net.TCPAddr).Port
	w := newWorld(t, func(c *hold.Config) {
		production("127.0.0.0/8", "::1/128")(c)
		c.Relays = []string{elsewhere.URL}
	})
	require.Equal(t, "/xrpc/com.atproto.sync.requestCrawl", <-asked)
	require.GreaterOrEqual(t, w.callAs(fmt.Sprintf("did:web:127.0.0.1%%3A%d", port)).status, 400)
	require.Contains(t, received(t, asked), "/.well-known/did.json")
	w.collectFrom(elsewhere.URL)
	require.Contains(t, received(t, asked), "/xrpc/com.atproto.sync.getLatestCommit")
	require.Zero(t, in.accepted.Load(), "a redirect was followed")
}

// received is what was asked so far, besides the relay, which is asked again.
func received(t *testing.T, asked chan string) (paths []string) {
	t.Helper()
	for {
		select {
		case p := <-asked:
			paths = append(paths, p)
		default:
			return paths
		}
	}
}
