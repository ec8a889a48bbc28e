package pds_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	cbor "github.com/ipfs/go-ipld-cbor"
	"github.com/ipld/go-car"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

const (
	alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	notes = syntax.NSID("test.example.note")
)

func openEngine(t testing.TB, dir string) *pds.Engine {
	t.Helper()
	e, err := pds.Open(t.Context(), pds.Config{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func newKey(t testing.TB) *atcrypto.PrivateKeyK256 {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	return key
}

// newRepo is an engine with alice's empty repository.
func newRepo(t testing.TB) *pds.Engine {
	t.Helper()
	e := openEngine(t, t.TempDir())
	require.NoError(t, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t), Handle: "alice.test"}))
	return e
}

func note(text string) map[string]any { return map[string]any{"text": text} }

func put(t testing.TB, e *pds.Engine, rkey, text string) pds.Commit {
	t.Helper()
	_, c, err := e.ApplyWrites(t.Context(), alice, []pds.Write{{Op: pds.Put, Collection: notes, RKey: syntax.RecordKey(rkey), Value: note(text)}}, cid.Undef)
	require.NoError(t, err)
	return c
}

func remove(t testing.TB, e *pds.Engine, rkey string) pds.Commit {
	t.Helper()
	_, c, err := e.ApplyWrites(t.Context(), alice, []pds.Write{{Op: pds.Delete, Collection: notes, RKey: syntax.RecordKey(rkey)}}, cid.Undef)
	require.NoError(t, err)
	return c
}

// verifiedExport checks the whole exported repository as a stranger would, and returns its records by path.
func verifiedExport(t testing.TB, e *pds.Engine, did syntax.DID) map[string]cid.Cid {
	t.Helper()
	records, err := export(context.Background(), e, did)
	require.NoError(t, err)
	return records
}

func export(ctx context.Context, e *pds.Engine, did syntax.DID) (map[string]cid.Cid, error) {
	var out bytes.Buffer
	if err := e.WriteRepoCAR(ctx, did, "", &out); err != nil {
		return nil, err
	}
	commit, r, err := repo.LoadRepoFromCAR(ctx, bytes.NewReader(out.Bytes()))
	if err != nil {
		return nil, err
	}
	key, err := e.SigningKey(ctx, did)
	if err != nil {
		return nil, err
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	if err := commit.VerifySignature(pub); err != nil {
		return nil, err
	}
	if r.MST.IsPartial() {
		return nil, fmt.Errorf("the exported tree misses nodes")
	}
	if !r.MST.IsEmpty() {
		if err := r.MST.Verify(); err != nil {
			return nil, err
		}
	}
	records := map[string]cid.Cid{}
	if err := r.MST.WriteToMap(records); err != nil {
		return nil, err
	}
	for path, c := range records {
		b, err := r.RecordStore.Get(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if sum, err := c.Prefix().Sum(b.RawData()); err != nil || sum != c {
			return nil, fmt.Errorf("%s: the block does not hash to its CID", path)
		}
	}
	return records, nil
}

// carBlocks are the CIDs of a CAR file.
func carBlocks(t testing.TB, raw []byte) map[cid.Cid]bool {
	t.Helper()
	cr, err := car.NewCarReader(bytes.NewReader(raw))
	require.NoError(t, err)
	out := map[cid.Cid]bool{}
	for {
		b, err := cr.Next()
		if err != nil {
			return out
		}
		require.False(t, out[b.Cid()], "a block is twice in the CAR")
		out[b.Cid()] = true
	}
}

// decodeFrame splits a firehose message into its type and body.
func decodeFrame(t testing.TB, raw []byte) (string, []byte) {
	t.Helper()
	for n := 1; n < len(raw); n++ {
		var head map[string]any
		if cbor.DecodeInto(raw[:n], &head) == nil {
			kind, _ := head["t"].(string)
			return kind, raw[n:]
		}
	}
	t.Fatal("the message has no header")
	return "", nil
}

func decodeCommit(t testing.TB, ev pds.Event) *comatproto.SyncSubscribeRepos_Commit {
	t.Helper()
	kind, body := decodeFrame(t, ev.Frame)
	require.Equal(t, "#commit", kind)
	var c comatproto.SyncSubscribeRepos_Commit
	require.NoError(t, c.UnmarshalCBOR(bytes.NewReader(body)))
	return &c
}

// events reads n events after cursor.
func events(t testing.TB, e *pds.Engine, cursor int64, n int) []pds.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sub, err := e.Subscribe(ctx, cursor)
	require.NoError(t, err)
	var out []pds.Event
	for range n {
		ev, err := sub.Next(ctx)
		require.NoError(t, err)
		out = append(out, ev)
	}
	return out
}

func countNodes(n *mst.Node, into map[cid.Cid]bool) {
	into[*n.CID] = true
	for _, entry := range n.Entries {
		if entry.Child != nil {
			countNodes(entry.Child, into)
		}
	}
}
