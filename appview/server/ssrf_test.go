package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc/dnstest"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/pds"
	"atcr.io/operator/appview/server/servertest"
)

// insideAddr is the address of inside, and insideName a name that leads there.
const (
	insideAddr = "127.0.0.66"
	insideName = "inside.example.com"
)

// inside is a service in the registry's network that a stranger must not reach. It counts connections.
type inside struct {
	t        *testing.T
	place    func() (host, port string) // where it is said to be: another place each time, nothing is answered from memory
	accepted atomic.Int64
}

type counted struct {
	net.Listener
	n *atomic.Int64
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

func (i *inside) port() string {
	i.t.Helper()
	l, err := net.Listen("tcp", insideAddr+":0")
	require.NoError(i.t, err)
	i.serve(l)
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func (i *inside) serve(l net.Listener) {
	s := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)} // some want to speak TLS
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(counted{l, &i.accepted}) }()
	i.t.Cleanup(func() { s.Close(); <-done })
}

func (i *inside) url() string { return "http://" + i.at() }
func (i *inside) did() string { return "did:web:" + strings.Replace(i.at(), ":", "%3A", 1) }

// at is host:port of its place.
func (i *inside) at() string {
	host, port := i.place()
	return host + ":" + port
}

// strangers is a world in which the test writes identities and records as it likes, and a hold that answers as it likes.
type strangers struct {
	*servertest.World
	t      *testing.T
	inside *inside

	mu        sync.Mutex
	documents map[string]string // by DID; one that begins with http is a place to go to instead
	handles   map[string]string
	hold      *httptest.Server
	answers   map[string]http.HandlerFunc // of the hold, by the last part of the path
}

const cast = "abcdefghijklmnop"

func startStrangers(t *testing.T, allowed string) *strangers {
	s := &strangers{t: t, inside: &inside{t: t}, documents: map[string]string{}, handles: map[string]string{}, answers: map[string]http.HandlerFunc{}}
	accounts := []devnet.Account{{Handle: servertest.Alice}}
	for _, c := range cast {
		accounts = append(accounts, devnet.Account{Handle: string(c) + ".test"})
	}
	s.World = servertest.Start(t, servertest.Options{Accounts: accounts, WrapPDS: s.directory,
		AppViewEnv: map[string]string{names.TestMode: "false", names.AllowedPrivateCIDRs: allowed}})
	s.inside.place = func() (host, port string) { return insideAddr, s.inside.port() }
	s.hold = httptest.NewUnstartedServer(http.HandlerFunc(s.serveHold))
	s.hold.Config.ErrorLog = log.New(io.Discard, "", 0) // some want to speak TLS
	s.hold.Start()
	t.Cleanup(s.hold.Close)
	return s
}

// directory answers for identities that the test made up.
func (s *strangers) directory(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		document := s.documents[strings.TrimPrefix(r.URL.Path, "/")]
		handle := s.handles[r.URL.Query().Get("handle")]
		s.mu.Unlock()
		switch {
		case strings.HasPrefix(document, "http"):
			http.Redirect(w, r, document, http.StatusFound)
		case document != "":
			_, _ = io.WriteString(w, document)
		case strings.HasPrefix(handle, "http"):
			http.Redirect(w, r, handle, http.StatusFound)
		case handle != "" && strings.HasSuffix(r.URL.Path, "resolveHandle"):
			fmt.Fprintf(w, `{"did":%q}`, handle)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *strangers) holdDID() string { return didOf(s.hold) }

func didOf(srv *httptest.Server) string {
	return "did:web:localhost%3A" + fmt.Sprint(srv.Listener.Addr().(*net.TCPAddr).Port)
}

func (s *strangers) serveHold(w http.ResponseWriter, r *http.Request) {
	name := lastOf(r)
	s.mu.Lock()
	answer := s.answers[name]
	s.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case name == "did.json":
		holdDocument(w, s.holdDID(), fmt.Sprintf("http://localhost:%d", s.hold.Listener.Addr().(*net.TCPAddr).Port))
	case name == "io.atcr.hold.initiateUpload":
		_, _ = io.WriteString(w, `{"uploadId":"u","partSize":1000}`)
	default:
		_, _ = io.WriteString(w, `{}`)
	}
}

func holdDocument(w io.Writer, did, endpoint string) {
	fmt.Fprintf(w, `{"id":%q,"service":[{"id":"#atcr_hold","type":"AtcrHoldService","serviceEndpoint":%q}]}`, did, endpoint)
}

func lastOf(r *http.Request) string { return r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:] }

// another is a hold besides, of which nobody knows anything yet. It answers one thing as the test likes.
func (s *strangers) another(name string, answer http.HandlerFunc) (did string) {
	s.t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch lastOf(r) {
		case name:
			answer(w, r)
		case "did.json":
			holdDocument(w, "did:web:"+strings.Replace(r.Host, ":", "%3A", 1), "http://"+r.Host)
		default:
			s.serveHold(w, r)
		}
	}))
	s.t.Cleanup(srv.Close)
	return didOf(srv)
}

func (s *strangers) on(name string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = h
}

// identity makes up a did:plc with a service at an endpoint, and the handles that it says it has.
func (s *strangers) identity(id byte, service, endpoint string, handles ...string) string {
	did := "did:plc:stranger" + strings.Repeat(string(id), 16)
	var known []string
	for _, h := range handles {
		known = append(known, "at://"+h)
	}
	doc, err := json.Marshal(map[string]any{"id": did, "alsoKnownAs": known, "service": []any{map[string]string{"id": "#" + service, "type": "x", "serviceEndpoint": endpoint}}})
	require.NoError(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.documents[did] = string(doc)
	return did
}

// record writes a record into the repository of one of the cast.
func (s *strangers) record(handle, collection, rkey string, value map[string]any) {
	s.t.Helper()
	_, _, err := s.Devnet.Engine().ApplyWrites(s.t.Context(), s.Account(handle).DID, []pds.Write{{Op: pds.Put,
		Collection: syntax.NSID(collection), RKey: syntax.RecordKey(rkey), Value: value}}, cid.Undef)
	require.NoError(s.t, err)
}

// manifest writes a manifest record whose blobs are somewhere, and lets the registry see it.
func (s *strangers) manifest(handle, field, hold string) {
	d := digest.FromString("manifest of " + handle)
	s.record(handle, "io.atcr.manifest", d.Encoded(), map[string]any{"repository": "app", "digest": string(d), "schemaVersion": 2,
		"mediaType": "application/vnd.oci.image.manifest.v1+json", "createdAt": "2026-01-01T00:00:00Z", field: hold})
	require.Equal(s.t, http.StatusOK, s.get(handle, "/referrers/"+string(d)).StatusCode)
}

func (s *strangers) profile(handle, hold string) {
	s.record(handle, "io.atcr.sailor.profile", "self", map[string]any{"defaultHold": hold, "createdAt": "2026-01-01T00:00:00Z"})
}

func (s *strangers) get(owner, path string) *http.Response {
	return s.Do("", http.MethodGet, "/v2/"+owner+"/app"+path, owner+"/app", nil, nil)
}

func (s *strangers) blob(method, owner string) *http.Response {
	return s.Do("", method, "/v2/"+owner+"/app/blobs/"+string(digest.FromString("blob")), owner+"/app", nil, nil)
}

func (s *strangers) upload(handle string) *http.Response {
	return s.Do(handle, http.MethodPost, "/v2/"+handle+"/app/blobs/uploads/", handle+"/app", nil, nil)
}

func (s *strangers) chunk(handle string) *http.Response {
	resp := s.upload(handle)
	require.Equal(s.t, http.StatusAccepted, resp.StatusCode)
	return s.Do(handle, http.MethodPatch, resp.Header.Get("Location"), handle+"/app", strings.NewReader("chunk"), nil)
}

func (s *strangers) login(user string) *http.Response {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+"/auth/token", nil)
	require.NoError(s.t, err)
	req.SetBasicAuth(user, "app-password")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func alias(did string) string {
	return strings.NewReplacer(":", "_", "%3A", "__3a").Replace(did)
}

const ownLoopback = "127.0.0.1/32,::1/128"

// spelled runs a test in worlds of their own, for each way to say where inside is: its address, and names.
func spelled(t *testing.T, allowed string, test func(t *testing.T, s *strangers)) {
	for spelling, addrs := range map[string]string{
		"its address": "", "a name": insideAddr, "a name of an IPv4 address in IPv6": "::ffff:" + insideAddr, "a name that has a good address too": "::1 " + insideAddr,
	} {
		t.Run(spelling, func(t *testing.T) {
			dns := dnstest.Only(t)
			s := startStrangers(t, allowed)
			if addrs != "" {
				dns.Set(insideName, addrs)
				s.inside.place = func() (host, port string) { return insideName, s.inside.port() }
			}
			test(t, s)
		})
	}
}

func TestNoURLOfAStrangerReachesTheInside(t *testing.T) {
	spelled(t, ownLoopback, func(t *testing.T, s *strangers) {
		for _, e := range entries {
			t.Run(e.name, func(t *testing.T) { requireBlocked(t, s, e.try(s)) })
		}
	})
}

// Addresses at which nothing can listen here: the server itself counts what it refused to dial.
func TestNoURLOfAStrangerLeadsToAnAddressThatIsNotPublic(t *testing.T) {
	for _, addr := range []string{"169.254.169.254", "10.0.0.1", "fd00::1", "64:ff9b::a9fe:a9fe"} {
		t.Run(addr, func(t *testing.T) {
			dns := dnstest.Only(t)
			s := startStrangers(t, ownLoopback)
			n := 0
			s.inside.place = func() (host, port string) {
				n++
				host = fmt.Sprintf("inside-%d.example.com", n)
				dns.Set(host, addr)
				return host, "80"
			}
			for _, e := range entries {
				t.Run(e.name, func(t *testing.T) {
					before := s.refused()
					requireBlocked(t, s, e.try(s))
					if !e.never {
						require.Greater(t, s.refused(), before, "it was dialled, or not even looked up")
					}
				})
			}
		})
	}
}

// The name servers of those who attack answer a good address to whoever looks first, and one inside to whoever connects.
func TestFromNoEntryANameIsResolvedOnceToBeCheckedAndAgainToBeDialled(t *testing.T) {
	dns := dnstest.Only(t)
	s := startStrangers(t, ownLoopback)
	s.hold.Config.SetKeepAlivesEnabled(false) // each call resolves the name again
	good := fmt.Sprint(s.hold.Listener.Addr().(*net.TCPAddr).Port)
	l, err := net.Listen("tcp", insideAddr+":"+good)
	require.NoError(t, err)
	s.inside.serve(l)
	n := 0
	name := func() string { return fmt.Sprintf("rebind-%d.example.com", n) }
	s.inside.place = func() (host, port string) {
		n++
		dns.Set(name(), "127.0.0.1", insideAddr)
		return name(), good
	}
	for _, e := range entries {
		t.Run(e.name, func(t *testing.T) {
			before, named := s.inside.accepted.Load(), n
			e.try(s)
			require.Equal(t, before, s.inside.accepted.Load(), "a connection was made")
			if !e.never && n > named {
				require.Positive(t, dns.Asked(name()), "nobody looked")
			}
		})
	}
}

// refused is how many requests the server did not make because of where they led.
func (s *strangers) refused() (sum int) {
	for line := range strings.Lines(scrape(s.t, s.DebugURL)) {
		if strings.HasPrefix(line, "atcr_upstream_requests_total{") && strings.Contains(line, `status="blocked"`) {
			n, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndex(line, " "):]))
			require.NoError(s.t, err)
			sum += n
		}
	}
	return sum
}

// requireBlocked insists that nobody came to the inside, and that an answer, if there is one, says what is wrong.
func requireBlocked(t *testing.T, s *strangers, resp *http.Response) {
	t.Helper()
	require.Zero(t, s.inside.accepted.Load(), "a connection was made")
	if resp == nil {
		return
	}
	require.GreaterOrEqual(t, resp.StatusCode, 400)
	require.NotEqual(t, http.StatusInternalServerError, resp.StatusCode)
	if resp.Request.Method != http.MethodHead {
		a := read(t, resp)
		require.Greater(t, strings.Count(a.message, "."), 1, "a sentence and a remedy: %s", a.message)
		require.NotContains(t, a.message, "dial tcp", "what our network looks like is not the stranger's business")
	}
}

// The same requests reach the address where an operator has allowed it: the test above can fail.
func TestAnAllowedRangeIsReachedFromEveryEntry(t *testing.T) {
	spelled(t, ownLoopback+","+insideAddr+"/32", func(t *testing.T, s *strangers) {
		for _, e := range entries {
			t.Run(e.name, func(t *testing.T) {
				before := s.inside.accepted.Load()
				e.try(s)
				if e.never {
					require.Equal(t, before, s.inside.accepted.Load(), "it was followed")
				} else {
					require.Greater(t, s.inside.accepted.Load(), before, "no connection was made")
				}
			})
		}
	})
}
