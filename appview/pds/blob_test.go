package pds_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

func refer(t testing.TB, e *pds.Engine, rkey string, blobs ...any) {
	t.Helper()
	_, _, err := e.ApplyWrites(t.Context(), alice, []pds.Write{
		{Op: pds.Put, Collection: notes, RKey: syntax.RecordKey(rkey), Value: map[string]any{"blobs": blobs}},
	}, cid.Undef)
	require.NoError(t, err)
}

func TestABlobIsReadableWhileARecordReferencesIt(t *testing.T) {
	e := newRepo(t)
	blob, err := e.PutBlob(t.Context(), alice, "text/plain", strings.NewReader("hello"), 5)
	require.NoError(t, err)
	_, err = e.OpenBlob(t.Context(), alice, blob.Ref.CID())
	require.ErrorIs(t, err, pds.ErrBlobNotFound)

	refer(t, e, "one", blob, blob)
	refer(t, e, "two", blob)
	remove(t, e, "one")
	open, err := e.OpenBlob(t.Context(), alice, blob.Ref.CID())
	require.NoError(t, err)
	raw, err := io.ReadAll(open)
	require.NoError(t, err)
	require.NoError(t, open.Close())
	require.Equal(t, "hello", string(raw))
	require.Equal(t, "text/plain", open.MimeType)

	refer(t, e, "two") // an update without the blob
	_, err = e.OpenBlob(t.Context(), alice, blob.Ref.CID())
	require.ErrorIs(t, err, pds.ErrBlobNotFound)
	refer(t, e, "again", blob) // it was uploaded a moment ago, so it can still be referenced
}

func TestALargeBlobIsRefusedAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	e := openEngine(t, dir)
	require.NoError(t, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t)}))
	_, err := e.PutBlob(t.Context(), alice, "text/plain", bytes.NewReader(make([]byte, 101)), 100)
	require.ErrorIs(t, err, pds.ErrBlobTooLarge)
	require.Empty(t, blobFiles(t, dir))
}

func TestARecordMustNameABlobAsItIsStored(t *testing.T) {
	e := newRepo(t)
	blob, err := e.PutBlob(t.Context(), alice, "text/plain", strings.NewReader("hello"), 5)
	require.NoError(t, err)
	blob.MimeType = "image/png"
	_, _, err = e.ApplyWrites(t.Context(), alice, []pds.Write{{Op: pds.Create, Collection: notes, Value: map[string]any{"b": blob}}}, cid.Undef)
	require.ErrorIs(t, err, pds.ErrBlobMismatch)
}

func TestTheSweepRemovesWhatNobodyReferences(t *testing.T) {
	dir := t.TempDir()
	e, err := pds.Open(t.Context(), pds.Config{Dir: dir, TempBlobTTL: time.Nanosecond, EventRetention: time.Nanosecond})
	require.NoError(t, err)
	defer e.Close()
	require.NoError(t, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t)}))
	kept, err := e.PutBlob(t.Context(), alice, "text/plain", strings.NewReader("kept"), 5)
	require.NoError(t, err)
	refer(t, e, "one", kept)
	_, err = e.PutBlob(t.Context(), alice, "text/plain", strings.NewReader("lost"), 5)
	require.NoError(t, err)
	// A file that a crash left between the rename and the database.
	stray := filepath.Join(dir, "blobs", "1", "zz", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
	require.NoError(t, os.MkdirAll(filepath.Dir(stray), 0o700))
	require.NoError(t, os.WriteFile(stray, []byte("x"), 0o600))
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(stray, old, old))
	require.Len(t, blobFiles(t, dir), 3)

	require.NoError(t, e.Sweep(t.Context()))
	require.Len(t, blobFiles(t, dir), 1)
	open, err := e.OpenBlob(t.Context(), alice, kept.Ref.CID())
	require.NoError(t, err)
	require.NoError(t, open.Close())

	sub, err := e.Subscribe(t.Context(), 0)
	require.NoError(t, err)
	require.True(t, sub.Outdated(), "old events are gone, and the subscriber is told")
	ev, err := sub.Next(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, ev.Seq, "the latest event stays")

	remove(t, e, "one")
	require.Empty(t, blobFiles(t, dir), "a blob goes with its last record")
}

func blobFiles(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	}))
	return out
}
