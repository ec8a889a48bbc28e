package hold_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// tenth is a blob of ten bytes, the quota of a newcomer in a tiered hold.
func tenth(name string) []byte { return fmt.Appendf(nil, "%-10s", name) }

// pushRefused uploads a blob for which there is no space.
func (w *world) pushRefused(handle string, b []byte) {
	w.t.Helper()
	id := w.begin(handle)
	p := w.part(handle, id, 1, b)
	a := w.complete(handle, id, digest.FromBytes(b), p)
	require.Equal(w.t, http.StatusForbidden, a.status, "%s", a.body)
	require.Equal(w.t, "QuotaExceeded", a.errorName())
	require.Equal(w.t, "InvalidUploadId", w.complete(handle, id, digest.FromBytes(b), p).errorName(), "the upload is given up")
	w.requireNotStored(digest.FromBytes(b))
}

func (w *world) startRefused(handle string) {
	w.t.Helper()
	a := w.call(handle, "io.atcr.hold.initiateUpload", object{"digest": "x"})
	require.Equal(w.t, http.StatusForbidden, a.status, "%s", a.body)
	require.Equal(w.t, "QuotaExceeded", a.errorName())
}

func TestALargeConfigCountsAsALayerDoes(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) {
		tiered(c)
		c.QuotaTiers, c.NewCrewTier, c.PlankownerCrewTier = "hand=3MiB", "", ""
	})
	w.join(bob)
	large, layer, small := bytes.Repeat([]byte("c"), 2<<20), bytes.Repeat([]byte("l"), 1<<20), bytes.Repeat([]byte("s"), 1<<20)
	for _, b := range [][]byte{large, layer, small} {
		w.push(bob, b)
	}
	named := func(config []byte, layers ...[]byte) object {
		list := []object{}
		for _, b := range layers {
			list = append(list, object{"digest": digest.FromBytes(b), "size": len(b)})
		}
		return object{"config": object{"digest": digest.FromBytes(config), "size": len(config)}, "layers": list}
	}
	reserve := func(name string, m object) reply {
		return w.call(bob, "io.atcr.hold.reserveManifest", object{"manifestDigest": digest.FromString(name), "config": m["config"], "layers": m["layers"]})
	}
	push := func(name string, m object) {
		require.Equal(t, http.StatusOK, reserve(name, m).status, name)
		w.notify(bob, object{"repository": "app", "userDid": w.did(bob), "manifestDigest": digest.FromString(name), "tag": name, "operation": "push", "manifest": m})
	}
	require.Equal(t, http.StatusOK, reserve("m", named(large, layer)).status)
	require.Zero(t, w.quotaOf(bob).TotalSize, "it is not pushed yet")
	push("m", named(large, layer))
	require.Equal(t, quota{w.did(bob).String(), 2, 3 << 20, 3 << 20, "hand"}, w.quotaOf(bob))
	push("again", named(large, layer))
	push("a config as they are", named(small, layer))
	require.EqualValues(t, 3<<20, w.quotaOf(bob).TotalSize, "the same blobs, and a small config, cost nothing")
	require.Equal(t, "QuotaExceeded", reserve("a layer", named(large, layer, small)).errorName())

	w.deleted(bob, "m", "")
	require.EqualValues(t, 3<<20, w.quotaOf(bob).TotalSize, "the other manifest names them too")
	w.deleted(bob, "again", "")
	require.EqualValues(t, 1<<20, w.quotaOf(bob).TotalSize)
}

func TestBlobsThatNoManifestNamesFillNoDisk(t *testing.T) {
	onBothDrivers(t, tiered, func(t *testing.T, w *world) {
		now := w.clocked()
		w.join(bob)
		for _, name := range []string{"one", "two"} {
			w.push(bob, tenth(name))
		}
		w.push(bob, []byte("nine here"))
		w.pushRefused(bob, []byte("xx"))
		w.push(bob, tenth("two"))
		w.push(bob, []byte("y"))
		w.startRefused(bob)
		require.Zero(t, w.quotaOf(bob).TotalSize)
		require.Equal(t, http.StatusOK, w.reserve(bob, "m", tenth("one")).status)
		now.add(59 * time.Minute)
		w.startRefused(bob)

		// What nobody needs makes space when somebody asks, not only at the next sweep.
		now.add(2 * time.Minute)
		w.push(bob, tenth("new"))
		require.Equal(t, "BlobNotFound", w.getBlob(bob, bob, digest.FromBytes(tenth("two"))).errorName())
		w.join(carol)
		w.push(carol, tenth("one"))
	})
}

func TestAnEndlessBlobIsNotKept(t *testing.T) {
	w := newWorld(t, tiered)
	w.join(bob)
	w.pushRefused(bob, bytes.Repeat([]byte("x"), 31))
	w.push(bob, bytes.Repeat([]byte("x"), 30))
	w.push(alice, bytes.Repeat([]byte("x"), 31)) // the captain has no limit
}

// A registry that fails between the reservation and the manifest leaves reservations behind; so do clients that give up.
func TestAPushThatFitsIsTakenWhateverAnAbortedPushOfTheSameBlobsLeft(t *testing.T) {
	w, now := at(t, tiered)
	w.join(bob)
	base, top := []byte("base66"), []byte("top4")
	for i := range 5 {
		for _, b := range [][]byte{base, top} {
			w.push(bob, b)
		}
		require.Equal(t, http.StatusOK, w.reserve(bob, fmt.Sprint("aborted ", i), base, top).status)
	}
	require.Equal(t, http.StatusOK, w.reserve(bob, "m", base, top).status)
	w.pushed(bob, "m", "", base, top)
	require.EqualValues(t, 10, w.quotaOf(bob).TotalSize)

	// Of other blobs, the space of reservations that no push followed comes back too.
	w.deleted(bob, "m", "")
	for _, name := range []string{"one", "two"} {
		w.push(bob, tenth(name))
		now.add(16 * time.Minute)
		require.Equal(t, http.StatusOK, w.reserve(bob, name, tenth(name)).status)
	}
	w.startRefused(bob)
	now.add(2 * time.Hour)
	w.push(bob, tenth("three"))
	require.Equal(t, http.StatusOK, w.reserve(bob, "three", tenth("three")).status)
}

// A manifest that another registry pushed without telling keeps its blobs, and so it counts.
func TestWhatNobodyToldOfCountsOnceItIsSeen(t *testing.T) {
	w, now := at(t, tiered)
	w.join(bob)
	w.push(bob, []byte("config"))
	w.push(bob, []byte("four"))
	w.publish(bob, image("config", "four"))
	require.Zero(t, w.quotaOf(bob).TotalSize)
	now.add(25 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.EqualValues(t, 4, w.quotaOf(bob).TotalSize)
	require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(bob, bob, digest.FromString("config")).status)
}
