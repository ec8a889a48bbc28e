package hold_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// imported has the hold live on in a new directory, to which its repository was imported.
func (w *world) imported() (hold.ImportReport, *clock) {
	w.t.Helper()
	w.close()
	car := w.exported()
	w.cfg = w.moved("hold.key")
	report, err := hold.ImportRepo(w.t.Context(), w.cfg, w.deps, bytes.NewReader(car), hold.ImportOptions{})
	require.NoError(w.t, err)
	now := &clock{}
	w.deps.Now = now.now
	w.down() // the sweep at the start reads nothing
	w.reopen()
	w.hold.Quiet()
	w.between.Store(nil)
	return report, now
}

// down has no repository of an account be read; accounts can still be proven.
func (w *world) down() {
	f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if name := filepath.Base(r.URL.Path); strings.HasPrefix(name, "com.atproto.sync.") || strings.HasPrefix(name, "com.atproto.repo.") {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(rw, r)
	}
	w.between.Store(&f)
}

func TestAfterAnImportImagesCanBePulledOnceTheirUsersAreRead(t *testing.T) {
	w := newWorld(t, open)
	w.join(bob)
	d := w.pushImage(bob, "config", "layer")
	w.push(alice, []byte("config of alice"))
	w.publish(alice, image("config of alice", "layer of elsewhere"))
	_, _ = w.imported()
	require.True(t, w.has(bob, "layer"))
	require.False(t, w.has(bob, "config"))
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.has(bob, "config"))
	require.False(t, w.has(alice, "config of alice"), "nothing says that alice has been here")

	require.EqualValues(t, 1, w.records("io.atcr.hold.stats")[0].Value["pushCount"], "nothing was pushed")
	require.Len(t, w.records("io.atcr.hold.layer"), 1)
	w.unpublish(bob, d)
	w.call(bob, "io.atcr.hold.notifyManifest", object{"repository": "app", "userDid": w.did(bob), "manifestDigest": d, "operation": "delete"})
	require.Zero(t, w.quotaOf(bob).TotalSize)
}

// The ledger does not know of bob's config, which is all that is left of it. Alice has the same.
func TestAfterAnImportNothingIsRemovedThatAUserWhoCannotBeReadMayHave(t *testing.T) {
	w := newWorld(t, open)
	w.join(bob)
	of := w.pushImage(alice, "config", "layer of alice")
	w.pushImage(bob, "config", "layer of bob")
	w.pushImage(bob, "config of bob", "layer of bob")
	_, now := w.imported()
	w.push(alice, []byte("config"))
	w.unpublish(alice, of)
	w.call(alice, "io.atcr.hold.notifyManifest", object{"repository": "app", "userDid": w.did(alice), "manifestDigest": of, "operation": "delete"})
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": digest.FromString("config")}).status)

	w.down()
	collect := func() {
		t.Helper()
		require.NoError(t, w.hold.Sweep(t.Context()))
		require.Equal(t, 0, w.collectGarbage().Blobs)
	}
	collect()
	now.add(grace - time.Hour)
	collect()
	w.between.Store(nil)
	require.NoError(t, w.hold.Sweep(t.Context()))
	for _, b := range []string{"config", "config of bob", "layer of bob"} {
		require.True(t, w.has(bob, b), b)
	}

	// And a PDS that never comes back holds up the others for the grace period.
	_, now = w.imported()
	w.push(alice, []byte("young"))
	w.down()
	now.add(2 * grace)
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": digest.FromString("young")}).status)
	require.False(t, w.stored("young"))
	require.Equal(t, 2, w.collectGarbage().Strays, "the configs: nobody knows whose they are")
	for _, b := range []string{"config", "config of bob", "layer of bob"} {
		require.True(t, w.stored(b), b)
	}
}

func TestALedgerThatWasLostIsMadeAgainFromTheRecords(t *testing.T) {
	w := newWorld(t, open)
	w.pushImage(alice, "config", "layer")
	w.push(alice, []byte("orphan"))
	now := &clock{}
	w.deps.Now = now.now
	w.restart(func(c *hold.Config) {
		require.NoError(t, os.Rename(filepath.Join(c.DatabaseDir, "ledger.sqlite"), filepath.Join(c.DatabaseDir, "lost")))
	})
	require.True(t, w.has(alice, "layer"))
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.has(alice, "config"))
	require.EqualValues(t, 5, w.quotaOf(alice).TotalSize)
	now.add(2 * grace)
	report := w.collectGarbage()
	require.Equal(t, hold.Garbage{Users: 1, Manifests: 1, Strays: 1}, report)
	require.True(t, w.stored("orphan"), "it may have been anybody's")
}

// The copy knows neither what was pushed after it was made nor by whom.
func TestAnOlderCopyOfTheDatabaseRemovesNothingThatIsNewer(t *testing.T) {
	w := newWorld(t, open)
	w.pushImage(alice, "config", "layer")
	w.close()
	older := t.TempDir()
	require.NoError(t, os.CopyFS(older, os.DirFS(w.cfg.DatabaseDir)))
	w.reopen()
	w.join(bob)
	w.pushImage(alice, "config", "newer layer of alice")
	w.pushImage(bob, "config of bob", "layer of bob")
	w.close()
	w.cfg.DatabaseDir = older
	now := &clock{}
	w.deps.Now = now.now
	w.reopen()
	now.add(2 * grace)
	for range 2 {
		require.NoError(t, w.hold.Sweep(t.Context()))
		require.Equal(t, hold.Garbage{Users: 1, Manifests: 2, Strays: 3}, w.collectGarbage())
		now.add(2 * grace)
	}
	for _, b := range []string{"config", "layer", "newer layer of alice", "config of bob", "layer of bob"} {
		require.True(t, w.stored(b), b)
	}
}

// earlyLayer writes a layer record as holds did until early 2026: with a repository and a handle, and no manifest.
func (w *world) earlyLayer(handle, content string) {
	w.t.Helper()
	a := w.call(alice, "com.atproto.repo.createRecord", object{"repo": w.hold.DID(), "collection": "io.atcr.hold.layer", "record": object{
		"$type": "io.atcr.hold.layer", "digest": digest.FromString(content), "size": len(content), "mediaType": "application/x", "repository": "app",
		"userDid": w.did(handle), "userHandle": handle, "createdAt": "2026-01-01T00:00:00.000Z"}})
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
}

func TestEarlyLayerRecordsCountLikeOthers(t *testing.T) {
	w := newWorld(t, open)
	w.join(bob)
	for _, b := range []string{"config", "layer", "layer of nothing public"} {
		w.push(bob, []byte(b))
	}
	d := w.publish(bob, image("config", "layer"))
	w.earlyLayer(bob, "layer")
	w.earlyLayer(bob, "layer")
	w.earlyLayer(bob, "layer of nothing public")
	require.Len(t, w.export(bob).LayerRecords, 3)

	report, now := w.imported()
	require.Equal(t, 3, report.Layers)
	require.True(t, w.has(bob, "layer"))
	require.EqualValues(t, 28, w.quotaOf(bob).TotalSize)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.has(bob, "config"))
	require.Len(t, w.export(bob).LayerRecords, 2, "the manifest's own record has taken the place of its two early ones")
	require.EqualValues(t, 28, w.quotaOf(bob).TotalSize)

	now.add(2 * grace)
	w.collectGarbage()
	require.True(t, w.has(bob, "layer of nothing public"))
	w.unpublish(bob, d)
	w.call(bob, "io.atcr.hold.notifyManifest", object{"repository": "app", "userDid": w.did(bob), "manifestDigest": d, "operation": "delete"})
	require.EqualValues(t, 23, w.quotaOf(bob).TotalSize)
	require.Equal(t, deletion{Success: true, CrewDeleted: true, LayersDeleted: 1, StatsDeleted: 0}, w.deleteData(bob))
	require.Empty(t, w.records("io.atcr.hold.layer"))
}

// Nothing but the record tells of one that was written past the hold.
func TestEarlyLayerRecordsGoWithTheirUsersData(t *testing.T) {
	w := newWorld(t, open)
	w.earlyLayer(bob, "layer")
	w.earlyLayer(carol, "layer")
	require.Len(t, w.export(bob).LayerRecords, 1)
	require.Equal(t, 1, w.deleteData(bob).LayersDeleted)
	require.Len(t, w.records("io.atcr.hold.layer"), 1)
}
