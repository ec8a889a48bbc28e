package pds_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car"
	carutil "github.com/ipld/go-car/util"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

func exported(t testing.TB, e *pds.Engine) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, e.WriteRepoCAR(t.Context(), alice, "", &out))
	return out.Bytes()
}

func readCAR(t testing.TB, raw []byte) *pds.Import {
	t.Helper()
	in, err := pds.ReadRepoCAR(t.Context(), bytes.NewReader(raw))
	require.NoError(t, err)
	return in
}

func TestAnImportedRepositoryHasTheSameRecordsAndGoesOn(t *testing.T) {
	from := newRepo(t)
	for i := range 300 { // several levels of the tree, several commits
		put(t, from, fmt.Sprint("k", i%200), fmt.Sprint(i/3)) // and records with the same content
	}
	want := verifiedExport(t, from, alice)
	in := readCAR(t, exported(t, from))
	key, err := from.SigningKey(t.Context(), alice)
	require.NoError(t, err)
	pub, err := key.PublicKey()
	require.NoError(t, err)
	require.NoError(t, in.Commit.VerifySignature(pub))

	dir := t.TempDir()
	to := openEngine(t, dir)
	commit, err := to.ImportRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t), Handle: "alice.test"}, in)
	require.NoError(t, err)
	require.Greater(t, string(commit.Rev), in.Commit.Rev)
	require.Equal(t, want, verifiedExport(t, to, alice), "the same records, signed by the new key")
	require.Equal(t, in.Commit.Data, dataRoot(t, to), "the same tree")

	// It is a repository like any other: written to, read, and whole after a restart.
	put(t, to, "k7", "changed")
	put(t, to, "new", "new")
	remove(t, to, "k8")
	got := verifiedExport(t, to, alice)
	require.Len(t, got, len(want))
	require.NoError(t, to.Close())
	to = openEngine(t, dir)
	require.Equal(t, got, verifiedExport(t, to, alice))
	r, err := to.GetRecord(t.Context(), alice, notes, "k7")
	require.NoError(t, err)
	require.Equal(t, "changed", r.Value["text"])
}

func dataRoot(t testing.TB, e *pds.Engine) cid.Cid {
	t.Helper()
	commit, _, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(exported(t, e)))
	require.NoError(t, err)
	return commit.Data
}

func TestAnEmptyRepositoryIsImported(t *testing.T) {
	to := openEngine(t, t.TempDir())
	_, err := to.ImportRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t)}, readCAR(t, exported(t, newRepo(t))))
	require.NoError(t, err)
	require.Empty(t, verifiedExport(t, to, alice))
	put(t, to, "a", "one")
	require.Len(t, verifiedExport(t, to, alice), 1)
}

func TestAnImportReplacesWhatARepositoryHad(t *testing.T) {
	from := newRepo(t)
	put(t, from, "a", "one")
	raw := exported(t, from)
	put(t, from, "a", "two")
	put(t, from, "b", "two")
	before, err := from.LatestCommit(t.Context(), alice)
	require.NoError(t, err)
	key, err := from.SigningKey(t.Context(), alice)
	require.NoError(t, err)

	commit, err := from.ImportRepo(t.Context(), pds.NewRepo{DID: alice, Key: key}, readCAR(t, raw))
	require.NoError(t, err)
	require.Greater(t, commit.Rev, before.Rev, "revisions only rise, although the import is older")
	require.Len(t, verifiedExport(t, from, alice), 1)
	r, err := from.GetRecord(t.Context(), alice, notes, "a")
	require.NoError(t, err)
	require.Equal(t, "one", r.Value["text"])
	_, err = from.GetRecord(t.Context(), alice, notes, "b")
	require.ErrorIs(t, err, pds.ErrRecordNotFound)
}

// A consumer comes back with the cursor that it had at the former engine.
func TestTheFirehoseTellsAnImportToWhoKnewTheFormerEngine(t *testing.T) {
	from := newRepo(t)
	for i := range 20 {
		put(t, from, "a", fmt.Sprint(i))
	}
	to := openEngine(t, t.TempDir())
	commit, err := to.ImportRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t), Handle: "alice.test"}, readCAR(t, exported(t, from)))
	require.NoError(t, err)
	sub, err := to.Subscribe(t.Context(), 24)
	require.NoError(t, err, "the cursor is not of the future")
	require.True(t, sub.Outdated())
	var last int64
	for _, want := range []pds.EventKind{pds.EventIdentity, pds.EventAccount, pds.EventSync} {
		ev, err := sub.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, ev.Kind)
		require.Greater(t, ev.Seq, last)
		last = ev.Seq
		if ev.Kind == pds.EventSync {
			require.Contains(t, string(ev.Frame), string(commit.Rev))
		}
	}
	put(t, to, "b", "live")
	ev, err := sub.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, last+1, ev.Seq)
	_, err = repo.VerifyCommitMessage(t.Context(), decodeCommit(t, ev))
	require.NoError(t, err)
}

func TestBlobsOfAnImportAreMissingUntilTheyAreUploaded(t *testing.T) {
	from := newRepo(t)
	ref, err := from.PutBlob(t.Context(), alice, "text/plain", strings.NewReader("blob"), 100)
	require.NoError(t, err)
	_, _, err = from.ApplyWrites(t.Context(), alice, []pds.Write{{Op: pds.Put, Collection: notes, RKey: "b", Value: map[string]any{"blob": ref}}}, cid.Undef)
	require.NoError(t, err)
	missing, err := from.MissingBlobs(t.Context(), alice)
	require.NoError(t, err)
	require.Empty(t, missing)

	to := openEngine(t, t.TempDir())
	_, err = to.ImportRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t)}, readCAR(t, exported(t, from)))
	require.NoError(t, err)
	missing, err = to.MissingBlobs(t.Context(), alice)
	require.NoError(t, err)
	require.Equal(t, []cid.Cid{ref.Ref.CID()}, missing)
	_, err = to.OpenBlob(t.Context(), alice, ref.Ref.CID())
	require.ErrorIs(t, err, pds.ErrBlobNotFound)

	_, err = to.PutBlob(t.Context(), alice, "text/plain", strings.NewReader("blob"), 100)
	require.NoError(t, err)
	b, err := to.OpenBlob(t.Context(), alice, ref.Ref.CID())
	require.NoError(t, err)
	require.NoError(t, b.Close())
}

func TestADamagedCARFileIsRefused(t *testing.T) {
	e := newRepo(t)
	for i := range 50 {
		put(t, e, fmt.Sprint("k", i), fmt.Sprint(i))
	}
	whole := exported(t, e)
	refused := func(name string, raw []byte) {
		t.Helper()
		_, err := pds.ReadRepoCAR(t.Context(), bytes.NewReader(raw))
		require.ErrorIs(t, err, pds.ErrInvalidRecord, name)
	}
	refused("empty", nil)
	refused("no CAR file", []byte("hello"))
	refused("cut in a block", whole[:len(whole)-5])
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	refused("a changed byte", flipped)
	all := carBlocks(t, whole)
	root := firstRoot(t, whole)
	for leave := range all {
		refused("a block is missing: "+leave.String(), without(t, whole, root, leave))
	}

	// A proof of one record is a CAR file of this repository too, but not all of it.
	var proof bytes.Buffer
	require.NoError(t, e.WriteRecordProofCAR(t.Context(), alice, notes, "k7", &proof))
	refused("a proof", proof.Bytes())
}

func TestAnImportBelongsToItsDID(t *testing.T) {
	in := readCAR(t, exported(t, newRepo(t)))
	to := openEngine(t, t.TempDir())
	_, err := to.ImportRepo(t.Context(), pds.NewRepo{DID: syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"), Key: newKey(t)}, in)
	require.ErrorContains(t, err, string(alice))
	has, err := to.HasRepo(context.Background(), "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	require.NoError(t, err)
	require.False(t, has)
}

func firstRoot(t testing.TB, raw []byte) cid.Cid {
	t.Helper()
	r, err := car.NewCarReader(bytes.NewReader(raw))
	require.NoError(t, err)
	return r.Header.Roots[0]
}

// without is the CAR file with one block left out.
func without(t testing.TB, raw []byte, root, leave cid.Cid) []byte {
	t.Helper()
	r, err := car.NewCarReader(bytes.NewReader(raw))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, car.WriteHeader(&car.CarHeader{Roots: []cid.Cid{root}, Version: 1}, &out))
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.Bytes()
		}
		require.NoError(t, err)
		if b.Cid() != leave {
			require.NoError(t, carutil.LdWrite(&out, b.Cid().Bytes(), b.RawData()))
		}
	}
}
