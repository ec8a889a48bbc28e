package hold_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage"
)

// empties has every PDS answer as if no account had a record any more.
func (w *world) empties() {
	f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		rw.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "listRecords"):
			_, _ = rw.Write([]byte(`{"records":[]}`))
		case strings.HasSuffix(r.URL.Path, "getRecord"):
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = rw.Write([]byte(`{"error":"RecordNotFound","message":"Could not locate record."}`))
		default:
			next.ServeHTTP(rw, r)
		}
	}
	w.between.Store(&f)
}

func (w *world) collectGarbage() hold.Garbage {
	w.t.Helper()
	report, err := w.hold.CollectGarbage(w.t.Context(), false)
	require.NoError(w.t, err)
	return report
}

// Who moves to another PDS has an empty repository there for a while. The image is older than the grace period by then.
func TestManifestsThatAreMissedForAWhileLoseNothing(t *testing.T) {
	w, now := at(t, open)
	w.hold.Quiet()
	w.pushImage(alice, "config", "layer")
	now.add(2 * grace)
	w.empties()
	dry, err := w.hold.CollectGarbage(t.Context(), true)
	require.NoError(t, err)
	want := hold.Garbage{Users: 1, Gone: 1, LayerRecords: 1}
	require.Equal(t, want, w.collectGarbage())
	want.DryRun = true
	require.Equal(t, want, dry)
	require.Zero(t, w.quotaOf(alice).TotalSize, "the quota does not wait")
	for now.add(grace - time.Hour); ; now.add(30 * time.Minute) {
		require.NoError(t, w.hold.Sweep(t.Context()))
		require.Zero(t, w.collectGarbage().Links)
		if w.between.Load() == nil {
			break
		}
		w.between.Store(nil) // and it has its records again
	}
	require.True(t, w.has(alice, "config"))
	require.True(t, w.has(alice, "layer"))
	require.EqualValues(t, 5, w.quotaOf(alice).TotalSize)
	require.Len(t, w.records("io.atcr.hold.layer"), 1)

	w.empties()
	require.Equal(t, 1, w.collectGarbage().Gone)
	now.add(grace + time.Hour)
	require.Equal(t, 2, w.collectGarbage().Blobs, "when it stays away, they go")
	require.False(t, w.has(alice, "layer"))
}

func TestBlobsOfMissedManifestsGoWithoutAnotherCollection(t *testing.T) {
	w, now := at(t, open)
	w.hold.Quiet()
	w.unpublish(alice, w.pushImage(alice, "config", "layer"))
	require.Equal(t, 1, w.collectGarbage().Gone)
	now.add(grace - time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.stored("layer"))
	now.add(2 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, w.stored("layer"))
	require.False(t, w.stored("config"))
}

// A PDS that was put back to a copy, or that its user has left, lists what was true once.
func TestAnOlderStateOfARepositoryDecidesNothing(t *testing.T) {
	w, now := at(t, open)
	w.hold.Quiet()
	m := image("config", "layer")
	for _, b := range []string{"config", "layer", "orphan"} {
		w.push(alice, []byte(b))
	}
	w.publish(alice, m)
	w.notify(alice, object{"repository": "app", "userDid": w.did(alice), "manifestDigest": digest.FromBytes(m), "operation": "push",
		"rev": syntax.NewTIDFromTime(time.Now().Add(time.Hour), 0), "manifest": object{"layers": []object{{"digest": digest.FromString("layer"), "size": 5}}}})
	now.add(2 * grace)
	require.Equal(t, hold.Garbage{Users: 1, Unreadable: 1}, w.collectGarbage())
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.has(alice, "orphan"))
}

// Only what no manifest needs has an age.
func TestAClockFarAheadTakesNoBlobOfAManifest(t *testing.T) {
	w, now := at(t, open)
	w.hold.Quiet()
	w.pushImage(alice, "config", "layer")
	for _, b := range []string{"config", "untold"} {
		w.push(alice, []byte(b))
	}
	w.publish(alice, image("config", "untold"))
	now.add(100 * 365 * 24 * time.Hour)
	for range 2 {
		require.NoError(t, w.hold.Sweep(t.Context()))
		require.Zero(t, w.collectGarbage().Links)
	}
	for _, b := range []string{"config", "layer", "untold"} {
		require.True(t, w.has(alice, b), b)
	}
}

// failing is a storage that removes nothing.
type failing struct{ storage.Driver }

func (failing) Delete(context.Context, digest.Digest) error { return errors.New("no") }

func TestABlobWhoseRemovalFailedIsRemovedByTheNextSweep(t *testing.T) {
	w := newWorld(t, open)
	var real storage.Driver
	w.hold.WrapDriver(func(d storage.Driver) storage.Driver { real = d; return failing{d} })
	d := w.push(alice, []byte("blob"))
	w.push(alice, []byte("another"))
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": d}).status)
	require.Error(t, w.hold.Sweep(t.Context()))
	require.True(t, w.stored("blob"))
	w.hold.WrapDriver(func(storage.Driver) storage.Driver { return real })
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, w.stored("blob"))
	require.True(t, w.has(alice, "another"))
}

func TestTheBlobOfACompletionThatWasKilledIsSwept(t *testing.T) {
	w := newWorld(t, open)
	w.hold.Quiet()
	id := w.begin(alice)
	p := w.part(alice, id, 1, []byte("blob"))
	d := digest.FromString("blob")
	require.NoError(t, w.hold.CompleteInStorage(t.Context(), id, d, storage.Part{Number: 1, ETag: p["etag"].(string)}))
	require.True(t, w.stored("blob"))
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, w.stored("blob"))
	require.Equal(t, http.StatusOK, w.complete(alice, id, d, p).status, "and can be completed still")
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.has(alice, "blob"))
}

// forgetful is a storage that completes a blob and loses the answer.
type forgetful struct{ storage.Driver }

func (f forgetful) Complete(ctx context.Context, id string, d digest.Digest, parts []storage.Part) (int64, error) {
	_, err := f.Driver.Complete(ctx, id, d, parts)
	return 0, errors.Join(err, errors.New("no answer"))
}

func TestABlobThatNobodyGotLeavesNoBytes(t *testing.T) {
	w, now := at(t, open)
	w.hold.WrapDriver(func(d storage.Driver) storage.Driver { return forgetful{d} })
	id := w.begin(alice)
	a := w.complete(alice, id, digest.FromString("blob"), w.part(alice, id, 1, []byte("blob")))
	require.Equal(t, "CompletionFailed", a.errorName())
	now.add(time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, w.stored("blob"))
}

// An older copy of the ledger was put back: what came since then lies in the storage, and the ledger knows nothing of it.
func TestAnUploadThatFailsRemovesNoBytesThatTheLedgerDoesNotKnow(t *testing.T) {
	onBothDrivers(t, tiered, func(t *testing.T, w *world) {
		var storing storage.Driver
		w.hold.WrapDriver(func(d storage.Driver) storage.Driver { storing = d; return d })
		lost := tenth("lost")
		d := digest.FromBytes(lost)
		own := w.begin(alice)
		p := w.part(alice, own, 1, lost)
		_, err := storing.Complete(t.Context(), own, d, []storage.Part{{Number: 1, ETag: p["etag"].(string)}})
		require.NoError(t, err)
		stays := func(after string) {
			t.Helper()
			require.NoError(t, w.hold.Sweep(t.Context()))
			_, err := w.hold.Stored(t.Context(), d)
			require.NoError(t, err, "after %s", after)
		}

		w.join(bob)
		id := w.begin(bob)
		require.Equal(t, "InvalidDigest", w.complete(bob, id, d, w.part(bob, id, 1, []byte("garbage"))).errorName())
		stays("the wrong bytes")
		require.Equal(t, "MissingParts", w.complete(bob, w.begin(bob), d, object{"partNumber": 1}).errorName())
		stays("no bytes")
		for _, b := range [][]byte{tenth("one"), tenth("two"), []byte("nine here")} {
			w.push(bob, b)
		}
		id = w.begin(bob)
		require.Equal(t, "QuotaExceeded", w.complete(bob, id, d, w.part(bob, id, 1, lost)).errorName())
		stays("a blob for which there is no space")
		if _, ok := storing.(storage.Receiver); ok {
			require.Equal(t, "QuotaExceeded", w.whole(bob, d, bytes.NewReader(lost)).errorName())
			stays("one that came whole")
		}

		require.Equal(t, http.StatusOK, w.complete(alice, own, d, p).status, "its user brings it again")
		stays("that")
		require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": d}).status)
		_, err = w.hold.Stored(t.Context(), d)
		require.ErrorIs(t, err, storage.ErrNotFound, "from then on it is known")
	})
}
