package peers_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/pds"
	"atcr.io/operator/test/peers/referencepds"
)

const someoneElse = "did:web:other.test"

// The hold's repository is what its captain and crew are known by, to us and to everybody else.
func TestTheHoldsRepositoryIsValidForOthers(t *testing.T) {
	reference := referencepds.Start(t, referencepds.Options{})
	hold := startHold(t, reference, map[string]string{names.HoldPublicURL: "http://hold.test"})
	hold.addCrew(t, reference, "alice.test", "bob.test", "blob:read")

	car := get(t, hold.url+"/xrpc/com.atproto.sync.getRepo?did="+url.QueryEscape(hold.did))
	doc := hold.document(t)
	key, err := doc.PublicKey()
	require.NoError(t, err)
	verified := requireValidRepo(t, car, hold.did, key)
	require.Contains(t, verified.Paths, "io.atcr.hold.captain/self")
	require.Equal(t, 2, count(verified.Paths, "io.atcr.hold.crew/"), "the captain and bob")
}

// A repository that grows to several levels of its tree, shrinks again, and is edited in the middle.
func TestDevnetsRepositoryIsValidForOthers(t *testing.T) {
	dev, err := devnet.Start(t.Context(), devnet.Config{Accounts: []devnet.Account{{Handle: "alice.test"}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	alice := dev.Account("alice.test")
	write := func(op pds.Op, rkey string, n int) pds.Write {
		w := pds.Write{Op: op, Collection: "io.atcr.tag", RKey: syntax.RecordKey(rkey)}
		if op != pds.Delete {
			w.Value = object{"$type": "io.atcr.tag", "n": int64(n), "text": "grüße"}
		}
		return w
	}
	apply := func(writes []pds.Write) {
		t.Helper()
		for len(writes) > 0 {
			n := min(len(writes), 200)
			_, _, err := dev.Engine().ApplyWrites(t.Context(), alice.DID, writes[:n], cid.Undef)
			require.NoError(t, err)
			writes = writes[n:]
		}
	}
	key, err := dev.Engine().SigningKey(t.Context(), alice.DID)
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	check := func(records int) {
		t.Helper()
		car := get(t, dev.URL()+"/xrpc/com.atproto.sync.getRepo?did="+url.QueryEscape(string(alice.DID)))
		require.Equal(t, records, requireValidRepo(t, car, string(alice.DID), public).Records)
	}

	check(0)
	var all, odd []pds.Write
	for i := range 600 {
		rkey := fmt.Sprintf("repo%d_latest", i)
		all = append(all, write(pds.Create, rkey, i))
		switch {
		case i%2 == 1:
			odd = append(odd, write(pds.Delete, rkey, i))
		case i%10 == 0:
			odd = append(odd, write(pds.Update, rkey, -i))
		}
	}
	apply(all)
	check(600)
	apply(odd)
	check(300)
	var rest []pds.Write
	for i := 0; i < 600; i += 2 {
		rest = append(rest, write(pds.Delete, fmt.Sprintf("repo%d_latest", i), i))
	}
	apply(rest)
	check(0)
}

// What `repo import` does: the records of a CAR file, in one commit of another engine with a key of its own, which then
// goes on.
func TestAnImportedRepositoryIsValidForOthers(t *testing.T) {
	dev, err := devnet.Start(t.Context(), devnet.Config{Accounts: []devnet.Account{{Handle: "alice.test"}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	did := dev.Account("alice.test").DID
	tag := func(op pds.Op, n int) pds.Write {
		w := pds.Write{Op: op, Collection: "io.atcr.tag", RKey: syntax.RecordKey(fmt.Sprintf("repo%d_latest", n))}
		if op != pds.Delete {
			w.Value = object{"$type": "io.atcr.tag", "n": int64(n)}
		}
		return w
	}
	for first := 0; first < 400; first += 200 {
		var writes []pds.Write
		for n := first; n < first+200; n++ {
			writes = append(writes, tag(pds.Create, n))
		}
		_, _, err := dev.Engine().ApplyWrites(t.Context(), did, writes, cid.Undef)
		require.NoError(t, err)
	}
	in, err := pds.ReadRepoCAR(t.Context(), bytes.NewReader(get(t, dev.URL()+"/xrpc/com.atproto.sync.getRepo?did="+url.QueryEscape(string(did)))))
	require.NoError(t, err)

	key, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	other, err := pds.Open(t.Context(), pds.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	_, err = other.ImportRepo(t.Context(), pds.NewRepo{DID: did, Key: key}, in)
	require.NoError(t, err)
	srv := httptest.NewServer(pds.NewHandler(other, pds.HandlerConfig{ServiceDID: "did:web:pds.test"}))
	t.Cleanup(srv.Close)
	check := func(records int) {
		t.Helper()
		car := get(t, srv.URL+"/xrpc/com.atproto.sync.getRepo?did="+url.QueryEscape(string(did)))
		require.Equal(t, records, requireValidRepo(t, car, string(did), public).Records)
	}
	check(400)
	_, _, err = other.ApplyWrites(t.Context(), did, []pds.Write{tag(pds.Delete, 7), tag(pds.Delete, 100), tag(pds.Create, 1000)}, cid.Undef)
	require.NoError(t, err)
	check(399)
}

// requireValidRepo has both the reference implementation and indigo check a repository.
func requireValidRepo(t *testing.T, car []byte, did string, key atcrypto.PublicKey) referencepds.Verified {
	t.Helper()
	verified, err := referencepds.VerifyRepo(t, car, did, key.DIDKey())
	require.NoError(t, err, "@atproto/repo")

	commit, r, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(car))
	require.NoError(t, err, "indigo")
	require.NoError(t, r.MST.Verify())
	require.NoError(t, commit.VerifySignature(key))
	require.Equal(t, did, commit.DID)

	// The verifier must be able to say no.
	_, err = referencepds.VerifyRepo(t, car, someoneElse, key.DIDKey())
	require.Error(t, err, "a repository of somebody else")
	stranger, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	strange, err := stranger.PublicKey()
	require.NoError(t, err)
	_, err = referencepds.VerifyRepo(t, car, did, strange.DIDKey())
	require.Error(t, err, "a signature of somebody else")
	return verified
}

func count(paths []string, prefix string) int {
	n := 0
	for _, p := range paths {
		if strings.HasPrefix(p, prefix) {
			n++
		}
	}
	return n
}
