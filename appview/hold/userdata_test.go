package hold_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

type exportedData struct {
	HoldDID, UserDID string
	ExportedAt       string
	IsCaptain        bool
	CrewRecord       *record
	LayerRecords     []record
	StatsRecords     []record
	BlueskyPosts     []any
	Blobs            []struct {
		Digest digest.Digest
		Size   int64
	}
}

func (w *world) export(handle string) (e exportedData) {
	w.t.Helper()
	a := w.query(handle, "io.atcr.hold.exportUserData", nil)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a.json(&e)
	return e
}

type deletion struct {
	Success, CrewDeleted        bool
	LayersDeleted, StatsDeleted int
}

func (w *world) deleteData(handle string) (d deletion) {
	w.t.Helper()
	a := w.call(handle, "io.atcr.hold.deleteUserData", object{})
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a.json(&d)
	return d
}

// Bob and carol share a layer; bob has one of his own and a config that no layer record names.
func withTwoUsers(t *testing.T) (w *world, shared, own, config digest.Digest) {
	w = newWorld(t, tiered)
	w.join(bob)
	w.join(carol)
	shared, own = w.push(bob, []byte("shared")), w.push(bob, []byte("own"))
	config = w.push(bob, []byte("{}"))
	w.push(carol, []byte("shared"))
	w.pushed(bob, "bobs", "", []byte("shared"), []byte("own"))
	w.pushed(bob, "bobs second", "", []byte("shared"))
	w.pushed(carol, "carols", "", []byte("shared"))
	return w, shared, own, config
}

func TestAUserTakesAwayWhatTheHoldHasOfThem(t *testing.T) {
	w, shared, own, config := withTwoUsers(t)
	e := w.export(bob)
	require.Equal(t, w.hold.DID().String(), e.HoldDID)
	require.Equal(t, w.did(bob).String(), e.UserDID)
	require.NotEmpty(t, e.ExportedAt)
	require.False(t, e.IsCaptain)
	require.Equal(t, w.did(bob).String(), e.CrewRecord.Value["member"])
	require.Len(t, e.LayerRecords, 3)
	for _, r := range e.LayerRecords {
		require.Equal(t, w.did(bob).String(), r.Value["userDid"])
	}
	require.Len(t, e.StatsRecords, 1)
	require.Equal(t, w.did(bob).String(), e.StatsRecords[0].Value["ownerDid"])
	require.NotNil(t, e.BlueskyPosts)
	sizes := map[digest.Digest]int64{}
	for _, b := range e.Blobs {
		sizes[b.Digest] = b.Size
	}
	require.Equal(t, map[digest.Digest]int64{shared: 6, own: 3, config: 2}, sizes)

	captain := w.export(alice)
	require.True(t, captain.IsCaptain)
	require.Empty(t, captain.LayerRecords)
	require.NotNil(t, captain.LayerRecords)
	require.Empty(t, captain.Blobs)
	none := w.export(mallory)
	require.Nil(t, none.CrewRecord)
	require.Empty(t, none.LayerRecords)

	require.Equal(t, http.StatusUnauthorized, w.query(nobody, "io.atcr.hold.exportUserData", nil).status)
}

func TestDeletingAUsersDataLeavesWhatOthersHave(t *testing.T) {
	w, shared, own, config := withTwoUsers(t)
	require.Equal(t, http.StatusUnauthorized, w.call(nobody, "io.atcr.hold.deleteUserData", object{}).status)
	require.Equal(t, deletion{Success: true, CrewDeleted: true, LayersDeleted: 3, StatsDeleted: 1}, w.deleteData(bob))

	for _, d := range []digest.Digest{shared, own, config} {
		require.Equal(t, http.StatusNotFound, w.getBlob(alice, bob, d).status)
	}
	require.Equal(t, "shared", string(w.pull(nobody, carol, shared, nil).body))
	w.requireNotStored(own)
	w.requireNotStored(config)
	require.Equal(t, http.StatusForbidden, w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status, "no member any more")
	for _, collection := range []string{"io.atcr.hold.layer", "io.atcr.hold.stats", "io.atcr.hold.crew"} {
		for _, r := range w.records(collection) {
			for _, field := range []string{"userDid", "ownerDid", "member"} {
				require.NotEqual(t, w.did(bob).String(), r.Value[field], r.URI)
			}
		}
	}
	require.Len(t, w.export(carol).LayerRecords, 1)
	require.Zero(t, w.quotaOf(bob).TotalSize)

	// Again, and back.
	require.Equal(t, deletion{Success: true}, w.deleteData(bob))
	w.join(bob)
	require.Equal(t, own, w.push(bob, []byte("own")))
	w.pushed(bob, "bobs", "", []byte("own"))
	require.Len(t, w.export(bob).LayerRecords, 1)
}

// The lexicon keeps the captain's crew record: without it nobody could lead the hold.
func TestTheCaptainStaysWhenItsDataGoes(t *testing.T) {
	w := newWorld(t, nil)
	d := w.push(alice, []byte("x"))
	w.notify(alice, w.manifest("v1", d))
	require.Equal(t, deletion{Success: true, LayersDeleted: 1, StatsDeleted: 1}, w.deleteData(alice))
	w.requireNotStored(d)
	require.Len(t, w.records("io.atcr.hold.crew"), 1)
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
}

func TestMoreLayersThanFitIntoOneCommitAreDeleted(t *testing.T) {
	w := newWorld(t, nil)
	var layers []digest.Digest
	for _, b := range []byte("abcdefgh") {
		layers = append(layers, w.push(alice, []byte{b}))
	}
	const manifests = 30
	for i := range manifests {
		w.notify(alice, w.manifest(string(rune('A'+i)), layers...))
	}
	require.Equal(t, manifests*len(layers), w.deleteData(alice).LayersDeleted) // 240, a commit takes 200
	require.Empty(t, w.records("io.atcr.hold.layer"))
}

// requireNotStored: the bytes are gone, whoever asks.
func (w *world) requireNotStored(d digest.Digest) {
	w.t.Helper()
	_, err := w.hold.Stored(w.t.Context(), d)
	require.Error(w.t, err, "the bytes of %s are still in the storage", d)
}

// Anybody with a DID may ask, and each time the hold looks at all its records.
func TestOneRequestOfADIDAtATimeLooksAtAllRecords(t *testing.T) {
	w := newWorld(t, nil)
	end := w.hold.Scanning()
	token := w.token(mallory)
	ask := func(ctx context.Context, method, name string) *httptest.ResponseRecorder {
		req, rec := httptest.NewRequestWithContext(ctx, method, w.url+"/xrpc/io.atcr.hold."+name, nil), httptest.NewRecorder()
		req.Header.Set("Authorization", "Bearer "+token)
		w.hold.Handler().ServeHTTP(rec, req)
		return rec
	}
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		ask(ctx, http.MethodGet, "exportUserData")
	}()
	require.Eventually(t, func() bool { return w.hold.Scanned(w.did(mallory)) }, 30*time.Second, time.Millisecond)
	for method, name := range map[string]string{http.MethodGet: "exportUserData", http.MethodPost: "deleteUserData"} {
		rec := ask(t.Context(), method, name)
		require.Equal(t, http.StatusTooManyRequests, rec.Code, name)
		require.NotEmpty(t, rec.Header().Get("Retry-After"))
	}
	leave()
	<-left // though the look that it waited for has not ended
	end()
	require.True(t, w.deleteData(mallory).Success)
}
