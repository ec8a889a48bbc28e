package hold_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc/dnstest"
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
	return serveInside(t, l)
}

func serveInside(t *testing.T, l net.Listener) *inside {
	t.Helper()
	i := &inside{Listener: l}
	s := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)} // some want to speak TLS
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

// describe answers the DID document of an account with another handle and another PDS.
func (w *world) describe(handle, aka, endpoint string) {
	did := w.did(handle).String()
	between := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.TrimPrefix(r.URL.Path, "/") != did {
			next.ServeHTTP(rw, r)
			return
		}
		rec, doc := httptest.NewRecorder(), object{}
		next.ServeHTTP(rec, r)
		_ = json.Unmarshal(rec.Body.Bytes(), &doc)
		doc["alsoKnownAs"] = []string{"at://" + aka}
		doc["service"] = []object{{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint}}
		_ = json.NewEncoder(rw).Encode(doc)
	}
	w.between.Store(&between)
}

// collectFrom lets the hold read the manifests of a user, whose DID document now names another PDS.
func (w *world) collectFrom(handle, endpoint string) {
	w.t.Helper()
	w.between.Store(nil)
	w.addCrew(handle, "blob:write")
	require.Equal(w.t, http.StatusOK, w.complete(handle, w.begin(handle), digest.FromString("")).status)
	w.describe(handle, handle, endpoint)
	w.restart(nil) // forgets what it knew of the user
	found, err := w.hold.CollectGarbage(w.t.Context(), true)
	require.NoError(w.t, err)
	require.Equal(w.t, 1, found.Unreadable)
}

// place is where the inside is said to be.
type place struct{ host, port string }

// chosen are the places where somebody else than the operator chooses a URL that the hold asks.
var chosen = map[string]func(w *world, at place){
	"the issuer of a token": func(w *world, at place) {
		require.GreaterOrEqual(w.t, w.callAs("did:web:"+at.host+"%3A"+at.port).status, 400)
	},
	"the PDS of a user": func(w *world, at place) { w.collectFrom(carol, "http://"+at.host+":"+at.port) },
	"the PDS of a user, as an IPv4 address in IPv6": func(w *world, at place) {
		w.collectFrom(bob, "http://[::ffff:127.0.0.66]:"+at.port)
	},
	"the PDS of a user, by https": func(w *world, at place) { w.collectFrom(mallory, "https://"+at.host+":"+at.port) },
}

// spelled gives a world for each way to say where the inside is.
func spelled(t *testing.T, test func(t *testing.T, at func(in *inside) place)) {
	for spelling, addrs := range map[string]string{"its address": "", "a name": "127.0.0.66", "a name of an IPv4 address in IPv6": "::ffff:127.0.0.66"} {
		t.Run(spelling, func(t *testing.T) {
			dns := dnstest.Only(t)
			test(t, func(in *inside) place {
				if addrs == "" {
					return place{"127.0.0.66", in.port()}
				}
				dns.Set("inside.example.com", addrs)
				return place{"inside.example.com", in.port()}
			})
		})
	}
}

func TestNoURLOfAStrangerLeadsTheHoldInside(t *testing.T) {
	spelled(t, func(t *testing.T, at func(in *inside) place) {
		w := newWorld(t, production("127.0.0.1/32", "::1/128"))
		for name, try := range chosen {
			in := startInside(t)
			try(w, at(in))
			require.Zero(t, in.accepted.Load(), "%s: a connection was made", name)
		}
	})
}

// The same requests reach the address where the operator has allowed it: the test above can fail.
func TestAnAllowedRangeIsReachedByTheHold(t *testing.T) {
	spelled(t, func(t *testing.T, at func(in *inside) place) {
		w := newWorld(t, production("127.0.0.0/8", "::1/128"))
		for name, try := range chosen {
			in := startInside(t)
			try(w, at(in))
			require.Positive(t, in.accepted.Load(), "%s: no connection was made", name)
		}
	})
}

// Addresses at which nothing can listen here: the hold itself counts what it refused to dial.
func TestNoURLOfAStrangerLeadsTheHoldToAnAddressThatIsNotPublic(t *testing.T) {
	handles := func(w *world, at place) { // looked up when a DID document is read
		w.describe(bob, at.host, w.net.URL())
		w.restart(nil) // forgets what it knew of him
		w.callAs(w.did(bob).String())
	}
	dns := dnstest.Only(t)
	w := newWorld(t, production("127.0.0.1/32", "::1/128"))
	n := 0
	for _, addr := range []string{"169.254.169.254", "10.0.0.1", "fd00::1", "64:ff9b::a9fe:a9fe"} {
		try := func(name string, f func(w *world, at place)) {
			n++
			at := place{fmt.Sprintf("inside-%d.example.com", n), "80"}
			dns.Set(at.host, addr)
			before, same := w.refused(), w.hold
			if f(w, at); w.hold != same {
				before = 0 // it was restarted
			}
			require.Greater(t, w.refused(), before, "%s at %s was dialled, or not even looked up", name, addr)
			w.between.Store(nil)
		}
		for name, f := range chosen {
			try(name, f)
		}
		try("the handle of a DID document", handles)
	}
}

// refused is how many requests the hold did not make because of where they led.
func (w *world) refused() (n int) {
	for _, line := range w.series("atcr_hold_upstream_requests_total") {
		if strings.Contains(line, `status="blocked"`) {
			some, err := strconv.Atoi(line[strings.LastIndex(line, " ")+1:])
			require.NoError(w.t, err)
			n += some
		}
	}
	return n
}

// The name servers of those who attack answer a good address to whoever looks first, and one inside to whoever connects.
func TestAHoldResolvesNoNameOnceToCheckItAndAgainToDialIt(t *testing.T) {
	dns := dnstest.Only(t)
	w := newWorld(t, production("127.0.0.1/32", "::1/128"))
	n := 0
	for name, try := range chosen {
		good := httptest.NewUnstartedServer(http.NotFoundHandler())
		good.Config.ErrorLog = log.New(io.Discard, "", 0) // one wants to speak TLS
		good.Config.SetKeepAlivesEnabled(false)           // the next call resolves the name again
		good.Start()
		t.Cleanup(good.Close)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.66:%d", good.Listener.Addr().(*net.TCPAddr).Port))
		require.NoError(t, err)
		in := serveInside(t, l)
		n++
		at := place{fmt.Sprintf("rebind-%d.example.com", n), in.port()}
		dns.Set(at.host, "127.0.0.1", "127.0.0.66")
		try(w, at)
		require.Zero(t, in.accepted.Load(), "%s: a connection was made", name)
		if !strings.Contains(name, "IPv6") {
			require.Positive(t, dns.Asked(at.host), "%s: nobody looked", name)
		}
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
	w.collectFrom(carol, elsewhere.URL)
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
