package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc/dnstest"
)

// A handle is looked up in DNS, then at its own host, whose address its owner chooses.
func TestNoHandleLeadsInside(t *testing.T) {
	const blocked, allowed = ownLoopback, ownLoopback + ",127.77.0.0/16," + insideAddr + "/32"
	named := byte(0)
	ask := map[string]func(s *strangers, handle string) *http.Response{
		"in a path":  func(s *strangers, handle string) *http.Response { return s.get(handle, "/manifests/v1") },
		"at a login": func(s *strangers, handle string) *http.Response { return s.login(handle) },
		"in a document": func(s *strangers, handle string) *http.Response {
			named++
			s.get(alias(s.identity('a'+named, "atproto_pds", "http://localhost", handle)), "/manifests/v1")
			return nil // the account is there, and has no handle
		},
	}
	try := func(t *testing.T, ranges string, check func(t *testing.T, s *strangers, resp *http.Response)) {
		dns := dnstest.Only(t)
		s := startStrangers(t, ranges)
		// The port is 443, so that the address is one that nobody else here has.
		well := fmt.Sprintf("127.77.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250))
		l, err := net.Listen("tcp", well+":443")
		if errors.Is(err, fs.ErrPermission) {
			t.Skip("only root may listen on port 443 here")
		}
		require.NoError(t, err)
		s.inside.serve(l)
		for where, by := range ask {
			for i, addr := range []string{well, "::ffff:" + well} {
				handle := fmt.Sprintf("well-known-%d-%d.example.com", len(where), i)
				dns.Set(handle, addr)
				t.Run(fmt.Sprintf("the host of a handle %s, %s", where, addr), func(t *testing.T) { check(t, s, by(s, handle)) })
			}
			if where == "in a document" { // what the record says is compared with the document's DID, and not followed
				continue
			}
			handle := fmt.Sprintf("text-%d.example.com", len(where))
			dns.SetText("_atproto."+handle, "did="+s.inside.did())
			t.Run("the TXT record of a handle "+where, func(t *testing.T) { check(t, s, by(s, handle)) })
		}
	}
	try(t, blocked, requireBlocked)
	t.Run("where it is allowed", func(t *testing.T) {
		var before int64
		try(t, allowed, func(t *testing.T, s *strangers, _ *http.Response) {
			require.Greater(t, s.inside.accepted.Load(), before, "no connection was made")
			before = s.inside.accepted.Load()
		})
	})
}

// The name server of an attacker answers a good address first, and one inside when the next connection is made.
func TestANameThatIsReboundBetweenTwoCallsLeadsNowhere(t *testing.T) {
	dns := dnstest.Only(t)
	s := startStrangers(t, ownLoopback)
	port := s.hold.Listener.Addr().(*net.TCPAddr).Port
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", insideAddr, port))
	require.NoError(t, err)
	s.inside.serve(l)
	for i, addr := range []string{insideAddr, "::ffff:" + insideAddr, "169.254.169.254", "10.0.0.1", "0.0.0.0", "fd00::1", "64:ff9b::7f00:42", "::1 " + insideAddr} {
		name := fmt.Sprintf("rebind-%d.example.com", i)
		var first atomic.Int64
		good := func(answer string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				first.Add(1)
				w.Header().Set("Connection", "close") // the next call resolves the name again
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, answer)
			}
		}
		dns.Set(name, "127.0.0.1", addr)
		s.on("com.atproto.sync.getLatestCommit", good(`{"cid":"bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","rev":"3l2"}`))
		s.on("com.atproto.repo.listRecords", good(`{"records":[]}`))
		pds := s.identity(cast[i], "atproto_pds", fmt.Sprintf("http://%s:%d", name, port))
		requireBlocked(t, s, s.get(alias(pds), "/manifests/v1"))
		require.EqualValues(t, 1, first.Load(), "the first call found the good address, and no other")

		hold := fmt.Sprintf("rebind-hold-%d.example.com", i)
		first.Store(0)
		dns.Set(hold, "127.0.0.1", addr)
		s.on("com.atproto.sync.getBlob", good(fmt.Sprintf(`{"url":"http://%s:%d/blob"}`, hold, port)))
		s.manifest(string(cast[i])+".test", "holdDid", s.identity(cast[i]-'a'+'A', "atcr_hold", fmt.Sprintf("http://%s:%d", hold, port)))
		requireBlocked(t, s, s.blob(http.MethodHead, string(cast[i])+".test"))
		require.EqualValues(t, 1, first.Load(), "the first call found the good address, and no other")
	}
}
