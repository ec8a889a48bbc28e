package peers_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/test/peers/referencepds"
)

// account on some PDS.
type account struct {
	pds, did, token string
}

func login(t *testing.T, pds, handle, password string) account {
	t.Helper()
	var out struct{ DID, AccessJWT string }
	call(t, http.MethodPost, pds+"/xrpc/com.atproto.server.createSession", "", object{"identifier": handle, "password": password}, &out)
	return account{pds, out.DID, out.AccessJWT}
}

func (a account) write(t *testing.T, method string, in object) {
	t.Helper()
	in["repo"] = a.did
	call(t, http.MethodPost, a.pds+"/xrpc/com.atproto.repo."+method, a.token, in, nil)
}

// What others hear of the same writes is the same from devnet and from the reference PDS.
func TestDevnetTellsTheFirehoseWhatTheReferenceTells(t *testing.T) {
	dev, err := devnet.Start(t.Context(), devnet.Config{Accounts: []devnet.Account{{Handle: "alice.test"}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	reference := referencepds.Start(t, referencepds.Options{Handles: []string{"alice.test"}})

	theirs := heard(t, login(t, reference.URL, "alice.test", reference.Account(t, "alice.test").AppPassword))
	ours := heard(t, login(t, dev.URL(), "alice.test", dev.Account("alice.test").AppPassword))
	require.Equal(t, theirs, ours)
}

// heard writes to an account and tells each event of its life.
func heard(t *testing.T, a account) []string {
	t.Helper()
	const tags, manifests = "io.atcr.tag", "io.atcr.manifest"
	tag := func(n int) object { return object{"$type": tags, "n": n} }
	put := func(rkey string, n int) object { return object{"collection": tags, "rkey": rkey, "record": tag(n)} }
	write := func(op, collection, rkey string) object {
		w := object{"$type": "com.atproto.repo.applyWrites#" + op, "collection": collection, "rkey": rkey}
		if op != "delete" {
			w["value"] = object{"$type": collection, "op": op}
		}
		return w
	}

	a.write(t, "putRecord", put("hello_latest", 1))
	a.write(t, "putRecord", put("hello_latest", 1)) // changes nothing
	a.write(t, "putRecord", put("hello_latest", 2))
	a.write(t, "applyWrites", object{"writes": []object{write("create", manifests, "aa"), write("update", tags, "hello_latest"), write("create", tags, "hello_v1")}})
	a.write(t, "deleteRecord", object{"collection": tags, "rkey": "hello_v1"})
	a.write(t, "deleteRecord", object{"collection": tags, "rkey": "hello_v1"}) // changes nothing
	a.write(t, "applyWrites", object{"writes": []object{write("delete", tags, "hello_latest"), write("delete", manifests, "aa")}})
	a.write(t, "putRecord", put("last", 1))

	var out []string
	hose := follow(t, a.pds)
	for {
		ev := hose.next()
		switch {
		case ev.Commit != nil:
			require.Equal(t, a.did, ev.Commit.Repo)
			line := fmt.Sprintf("%s tooBig=%v rebase=%v since=%v prevData=%v blobs=%d", ev.Kind, ev.Commit.TooBig, ev.Commit.Rebase,
				ev.Commit.Since != nil, ev.Commit.PrevData != nil, len(ev.Commit.Blobs))
			for _, op := range ev.Commit.Ops {
				line += fmt.Sprintf("\n\t%s %s cid=%v prev=%v", op.Action, op.Path, op.Cid != nil, op.Prev != nil)
			}
			out = append(out, line)
			if slices.Contains(ops(ev.Commit), "create "+tags+"/last") {
				return out
			}
		case ev.Identity != nil:
			out = append(out, fmt.Sprintf("%s own=%v handle=%v", ev.Kind, ev.Identity.Did == a.did, ev.Identity.Handle != nil && *ev.Identity.Handle == "alice.test"))
		case ev.Account != nil:
			out = append(out, fmt.Sprintf("%s own=%v active=%v status=%v", ev.Kind, ev.Account.Did == a.did, ev.Account.Active, ev.Account.Status != nil))
		case ev.Sync != nil:
			out = append(out, fmt.Sprintf("%s own=%v", ev.Kind, ev.Sync.Did == a.did))
		}
	}
}
