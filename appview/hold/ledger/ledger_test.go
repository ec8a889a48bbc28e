package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

const (
	alice = syntax.DID("did:plc:alice")
	bob   = syntax.DID("did:plc:bob")
)

func openTest(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestABlobIsLinkedToTheDIDThatCompletedItsUpload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space?.db")
	l := openTest(t, path)
	ctx, now, d := t.Context(), time.Now(), digest.FromString("x")
	require.NoError(t, l.BeginUpload(ctx, "u1", alice, 10, now))
	_, err := l.Upload(ctx, "u1", bob)
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, l.CompleteUpload(ctx, Upload{ID: "u1", DID: alice, Digest: d, Size: 1}, 0, now))

	size, err := l.Linked(ctx, alice, d)
	require.NoError(t, err)
	require.EqualValues(t, 1, size)
	_, err = l.Linked(ctx, bob, d)
	require.ErrorIs(t, err, ErrNotFound)

	require.NoError(t, l.Close())
	l = openTest(t, path)
	u, err := l.Upload(ctx, "u1", alice)
	require.NoError(t, err)
	require.Equal(t, Upload{ID: "u1", DID: alice, Digest: d, Size: 1}, u)

	require.NoError(t, l.Unlink(ctx, alice, d, time.Now()))
	unowned, err := l.Unowned(ctx, d)
	require.NoError(t, err)
	require.True(t, unowned)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestUploadsAreIdleOnceNotTouchedForLong(t *testing.T) {
	l := openTest(t, filepath.Join(t.TempDir(), "l.db"))
	ctx, start := t.Context(), time.Now()
	require.NoError(t, l.BeginUpload(ctx, "old", alice, 10, start))
	require.NoError(t, l.BeginUpload(ctx, "kept", alice, 10, start))
	require.NoError(t, l.TouchUpload(ctx, "kept", start.Add(time.Hour)))
	idle, err := l.IdleUploads(ctx, start.Add(time.Minute))
	require.NoError(t, err)
	require.Len(t, idle, 1)
	require.Equal(t, "old", idle[0].ID)
	require.NoError(t, l.ForgetUpload(ctx, "old"))
	idle, err = l.IdleUploads(ctx, start.Add(time.Minute))
	require.NoError(t, err)
	require.Empty(t, idle)
}

func TestALayerOfTwoManifestsCountsOnce(t *testing.T) {
	l := openTest(t, filepath.Join(t.TempDir(), "l.db"))
	ctx := t.Context()
	first := Layer{Manifest: "at://did:plc:alice/io.atcr.manifest/1", Digest: "sha256:a", DID: alice, Size: 10, RKey: "r1", CreatedAt: time.Now()}
	kept, fresh, err := l.KeepLayer(ctx, first)
	require.NoError(t, err)
	require.True(t, fresh)

	again := first
	again.RKey = "r2"
	same, fresh, err := l.KeepLayer(ctx, again)
	require.NoError(t, err)
	require.False(t, fresh)
	require.Equal(t, kept, same)

	second := first
	second.Manifest = "at://did:plc:alice/io.atcr.manifest/2"
	_, fresh, err = l.KeepLayer(ctx, second)
	require.NoError(t, err)
	require.True(t, fresh)
	blobs, bytes, err := l.Usage(ctx, alice, time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 1, blobs)
	require.EqualValues(t, 10, bytes)
	blobs, _, err = l.Usage(ctx, bob, time.Now())
	require.NoError(t, err)
	require.Zero(t, blobs)
}

func TestProgressIsNotedAtMostEveryTenSeconds(t *testing.T) {
	l := openTest(t, filepath.Join(t.TempDir(), "l.db"))
	ctx, start := t.Context(), time.Now()
	require.NoError(t, l.BeginUpload(ctx, "id", alice, 10, start))
	idle := func(since time.Time) int {
		found, err := l.IdleUploads(ctx, since)
		require.NoError(t, err)
		return len(found)
	}
	require.NoError(t, l.TouchUpload(ctx, "id", start.Add(9*time.Second)))
	require.Equal(t, 1, idle(start.Add(time.Second)), "not noted yet")
	require.NoError(t, l.TouchUpload(ctx, "id", start.Add(10*time.Second)))
	require.Zero(t, idle(start.Add(10*time.Second)), "noted")
}

func TestPushesAndRepositoriesOfADIDAreBounded(t *testing.T) {
	l := openTest(t, filepath.Join(t.TempDir(), "l.db"))
	ctx, d := t.Context(), digest.FromString("m")
	tags := func(did syntax.DID) (n int) {
		for i := range 10 {
			last, err := l.LastPush(ctx, did, "app", fmt.Sprint(i))
			require.NoError(t, err)
			if last == d {
				n++
			}
		}
		return n
	}
	for i := range 10 {
		require.NoError(t, l.SetLastPush(ctx, alice, "app", fmt.Sprint(i), d, 3))
		last, err := l.LastPush(ctx, alice, "app", fmt.Sprint(i))
		require.NoError(t, err)
		require.Equal(t, d, last, "the one just set stays")
		require.NoError(t, l.SetLastPush(ctx, bob, "app", fmt.Sprint(i), d, 100))
	}
	require.Equal(t, 3, tags(alice))
	require.Equal(t, 10, tags(bob))

	for i, want := range []bool{true, true, false, false} {
		yes, err := l.CountRepository(ctx, alice, fmt.Sprint(i), 2)
		require.NoError(t, err)
		require.Equal(t, want, yes)
	}
	for _, known := range []string{"0", "1"} {
		yes, err := l.CountRepository(ctx, alice, known, 2)
		require.NoError(t, err)
		require.True(t, yes, "known already")
	}
	require.NoError(t, l.ForgetUser(ctx, alice))
	yes, err := l.CountRepository(ctx, alice, "3", 2)
	require.NoError(t, err)
	require.True(t, yes)
	require.Zero(t, tags(alice))
}

func TestARestoreWhileTheClockWasAheadIsWaitedForNoLongerThanOthers(t *testing.T) {
	l := openTest(t, filepath.Join(t.TempDir(), "l.db"))
	ctx, now := t.Context(), time.Now()
	layers := func(yield func(Layer, error) bool) {
		yield(Layer{Manifest: "at://did:plc:alice/io.atcr.manifest/m", Digest: digest.FromString("x"), DID: alice, Size: 1, RKey: "r"}, nil)
	}
	require.NoError(t, l.RestoreLayers(ctx, layers, now.AddDate(10, 0, 0)))
	restored, err := l.Restored(ctx, now)
	require.NoError(t, err)
	require.Equal(t, []syntax.DID{alice}, restored)
	for since, want := range map[time.Duration]bool{-time.Hour: true, time.Hour: false} {
		wait, err := l.Incomplete(ctx, now.Add(since))
		require.NoError(t, err)
		require.Equal(t, want, wait, "restored since %s", since)
	}
}

// With many manifests the sum takes long, and nobody else writes meanwhile.
func TestAReservationWithoutALimitSumsUpNothing(t *testing.T) {
	l := openTest(t, filepath.Join(t.TempDir(), "l.db"))
	ctx, now, d := t.Context(), time.Now(), digest.FromString("x")
	require.NoError(t, l.Relink(ctx, alice, d, 1, now))
	_, err := l.write.ExecContext(ctx, `ALTER TABLE layers RENAME TO unreadable`) // only the sum looks there
	require.NoError(t, err)
	r := Reservation{DID: alice, Manifest: digest.FromString("m"), Blobs: []Blob{{Digest: d, Size: 1, Layer: true}}, Now: now}
	require.NoError(t, l.Reserve(ctx, r))
	r.Limit = 1
	require.Error(t, l.Reserve(ctx, r))
}
