package hold_test

import (
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage"
)

// Revisions of a user's repository, in order.
const (
	rev1 = "3lc2xqnp2222a"
	rev2 = "3lc2xqnp2222b"
	rev3 = "3lc2xqnp2222c"
)

func (w *world) deleted(handle, name, rev string) (layers int) {
	w.t.Helper()
	a := w.call(handle, "io.atcr.hold.notifyManifest", object{"repository": "app", "userDid": w.did(handle),
		"manifestDigest": digest.FromString(name), "rev": rev, "operation": "delete"})
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	var out struct{ LayersDeleted int }
	a.json(&out)
	return out.LayersDeleted
}

// clock is a clock that a test moves, read by the hold's background work too.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time      { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) add(d time.Duration) { c.ahead.Add(int64(d)) }

// at is a world with a clock that the test moves.
func at(t *testing.T, change func(*hold.Config)) (*world, *clock) {
	w := newWorld(t, change)
	return w, w.clocked()
}

// clocked gives the hold a clock.
func (w *world) clocked() *clock {
	c := &clock{}
	w.deps.Now = c.now
	w.restart(nil)
	return c
}

func (w *world) stored(content string) bool {
	w.t.Helper()
	_, err := os.Stat(filepath.Join(w.cfg.StorageRootDir, storage.BlobKey(digest.FromString(content))))
	return err == nil
}

func TestADeletedManifestGivesItsPlaceBackAndItsBlobsADayLater(t *testing.T) {
	w, now := at(t, public)
	shared, own := []byte("shared"), []byte("own layer")
	for _, b := range []string{"shared", "own layer", "config", "other config"} {
		w.push(alice, []byte(b))
	}
	push := func(name, config string, layers ...[]byte) {
		named := []object{}
		for _, b := range layers {
			named = append(named, object{"digest": digest.FromBytes(b), "size": len(b)})
		}
		w.notify(alice, object{"repository": "app", "userDid": w.did(alice), "manifestDigest": digest.FromString(name), "tag": name, "operation": "push",
			"manifest": object{"config": object{"digest": digest.FromString(config), "size": 1}, "layers": named}})
	}
	push("gone", "config", shared, own)
	push("kept", "other config", shared)
	require.Len(t, w.records("io.atcr.hold.layer"), 3)
	require.EqualValues(t, 15, w.quotaOf(alice).TotalSize)

	require.Equal(t, 2, w.deleted(alice, "gone", ""))
	require.EqualValues(t, 6, w.quotaOf(alice).TotalSize)
	layers := w.records("io.atcr.hold.layer")
	require.Len(t, layers, 1)
	require.Contains(t, layers[0].Value["manifest"], digest.FromString("kept").Encoded())
	require.Zero(t, w.deleted(alice, "gone", ""), "again")

	now.add(w.cfg.UploadTTL - time.Minute)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(nobody, alice, digest.FromBytes(own)).status, "a push in progress may count on it")
	now.add(2 * time.Minute)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, digest.FromBytes(own)).errorName())
	require.False(t, w.stored("own layer"))
	require.False(t, w.stored("config"))
	require.True(t, w.stored("shared"))
	require.True(t, w.stored("other config"))
	require.Equal(t, "shared", string(w.pull(nobody, alice, digest.FromBytes(shared), nil).body))
}

func TestBlobsThatAreUsedAgainOutliveADeletedManifest(t *testing.T) {
	for name, use := range map[string]func(w *world){
		"by another push of the blob":           func(w *world) { w.push(alice, []byte("layer")) },
		"by a manifest that is about to come":   func(w *world) { w.reserve(alice, "next", []byte("layer")) },
		"by another manifest":                   func(w *world) { w.pushed(alice, "next", "", []byte("layer")) },
		"by the same manifest, about to come":   func(w *world) { w.reserve(alice, "m", []byte("layer")) },
		"by the same manifest, which came anew": func(w *world) { w.pushed(alice, "m", rev3, []byte("layer")) },
	} {
		t.Run(name, func(t *testing.T) {
			w, now := at(t, public)
			w.push(alice, []byte("layer"))
			w.pushed(alice, "m", rev1, []byte("layer"))
			w.deleted(alice, "m", rev2)
			now.add(23 * time.Hour)
			use(w)
			now.add(2 * time.Hour)
			require.NoError(t, w.hold.Sweep(t.Context()))
			require.True(t, w.stored("layer"))
			require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(nobody, alice, digest.FromString("layer")).status)
		})
	}
}

func TestAReservedManifestThatNeverCameLetsItsBlobsGoAfterTheHorizon(t *testing.T) {
	w, now := at(t, public)
	w.push(alice, []byte("layer"))
	require.Equal(t, http.StatusOK, w.reserve(alice, "m", []byte("layer")).status)
	now.add(7 * 24 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.stored("layer"))
	now.add(2 * 24 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, w.stored("layer"))
}

func TestNotificationsTakeEffectInTheOrderOfTheCommits(t *testing.T) {
	w := newWorld(t, public)
	layer := []byte("layer")
	w.push(alice, layer)
	w.pushed(alice, "m", rev1, layer)
	require.Equal(t, 1, w.deleted(alice, "m", rev2))
	w.pushed(alice, "m", rev1, layer)
	require.Empty(t, w.records("io.atcr.hold.layer"), "the push came before the deletion, whatever arrived first")
	w.pushed(alice, "m", rev3, layer)
	require.Len(t, w.records("io.atcr.hold.layer"), 1)
	require.Zero(t, w.deleted(alice, "m", rev2), "late: it was pushed again since")
	require.Len(t, w.records("io.atcr.hold.layer"), 1)
	require.EqualValues(t, 2, w.records("io.atcr.hold.stats")[0].Value["pushCount"], "after a deletion the same push counts again")
}

func TestNobodyDeletesForOthersAndWhoLeftTheCrewMayTakeBackWhatIsTheirs(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	w.push(bob, []byte("layer"))
	w.pushed(bob, "m", "", []byte("layer"))
	in := object{"repository": "app", "userDid": w.did(bob), "manifestDigest": digest.FromString("m"), "operation": "delete"}
	require.Equal(t, "UserMismatch", w.call(alice, "io.atcr.hold.notifyManifest", in).errorName())
	w.removeCrew(alice, bob)
	require.Equal(t, 1, w.deleted(bob, "m", ""))
}

// The owner's registry may not know of a push that another registry, or another request, has begun.
func TestABlobOfAPushInProgressIsNotDeletedOnRequest(t *testing.T) {
	w, now := at(t, public)
	d := w.push(alice, []byte("layer"))
	require.Equal(t, http.StatusOK, w.reserve(alice, "m", []byte("layer")).status)
	remove := func() reply { return w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": d}) }
	refused := func() {
		t.Helper()
		a := remove()
		require.Equal(t, http.StatusConflict, a.status)
		require.Equal(t, "BlobInUse", a.errorName())
		require.True(t, w.stored("layer"))
		require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(nobody, alice, d).status)
	}
	refused()
	w.pushed(alice, "m", rev1, []byte("layer"))
	refused()
	w.deleted(alice, "m", rev2)
	require.Equal(t, http.StatusOK, remove().status)
	require.False(t, w.stored("layer"))

	// A reservation that no push followed does not stand in the way for ever.
	w.push(alice, []byte("layer"))
	require.Equal(t, http.StatusOK, w.reserve(alice, "n", []byte("layer")).status)
	refused()
	now.add(16 * time.Minute)
	require.Equal(t, http.StatusOK, remove().status)
	require.False(t, w.stored("layer"))
}
