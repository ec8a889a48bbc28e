package hold_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// fat is an image of one layer whose manifest has so many bytes for no reason.
func fat(layer string, size int) []byte {
	b, _ := json.Marshal(object{"schemaVersion": 2, "layers": []object{
		{"digest": digest.FromString(layer), "size": len(layer), "mediaType": strings.Repeat("x", size)},
		{"digest": strings.Repeat("y", size), "size": 1, "mediaType": "application/x"},
	}})
	return b
}

// kept are the manifests of which the hold keeps what they name, and the bytes of that.
func (w *world) kept(handle string) (manifests, bytes int) {
	w.t.Helper()
	of, bytes, err := w.hold.KeptOf(w.t.Context(), w.did(handle))
	require.NoError(w.t, err)
	return len(of), bytes
}

func TestManifestsOfOneUserFillNeitherTheMemoryNorTheDisk(t *testing.T) {
	w, now := at(t, open)
	w.hold.Quiet()
	w.hold.LimitReading(time.Minute, 1<<20)
	w.push(alice, []byte("a"))
	var all []digest.Digest
	for _, layer := range []string{"a", "b", "c"} {
		all = append(all, w.publish(alice, fat(layer, 200_000)))
	}
	require.Equal(t, hold.Garbage{Users: 1, Unreadable: 1}, w.collectGarbage(), "their bytes are more than a megabyte")
	require.Equal(t, hold.Garbage{Users: 1, Manifests: 3}, w.collectGarbage(), "what was read needs not be read again")
	manifests, bytes := w.kept(alice)
	require.Equal(t, 3, manifests)
	require.Less(t, bytes, 1000, "nothing is kept but what they name")
	require.True(t, w.has(alice, "a"))

	w.unpublish(alice, all[1])
	require.Equal(t, 2, w.collectGarbage().Manifests)
	manifests, _ = w.kept(alice)
	require.Equal(t, 2, manifests, "what is gone from the PDS is not kept")

	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": digest.FromString("a")}).status)
	now.add(grace)
	require.NoError(t, w.hold.Sweep(t.Context()))
	manifests, _ = w.kept(alice)
	require.Zero(t, manifests, "of whoever has nothing here any more, nothing is")
}

// A PDS can come up with other manifests each time, and never to an end.
func TestWhatIsKeptOfManifestsIsForgottenWhenItIsMoreThanCanBeRead(t *testing.T) {
	w := newWorld(t, open)
	w.hold.Quiet()
	w.push(alice, []byte("layer 0"))
	for i := range 10 {
		w.publish(alice, image("config", string(rune('a'+i))))
	}
	require.Equal(t, 10, w.collectGarbage().Manifests)
	w.hold.LimitReading(time.Minute, 1000)
	require.Equal(t, 1, w.collectGarbage().Unreadable)
	manifests, bytes := w.kept(alice)
	require.Positive(t, manifests)
	require.LessOrEqual(t, bytes, 1000)
}

// A PDS that limits requests answers a few of them at a time.
func TestManifestsThatAPDSSaysAreGoneGoThoughItDoesNotSayItOfAllOfThem(t *testing.T) {
	w := newWorld(t, open)
	w.hold.Quiet()
	for _, layer := range []string{"a", "b", "c", "d", "e"} {
		w.unpublish(alice, w.pushImage(alice, "config", layer))
	}
	for i, gone := range []int{2, 2, 1} {
		var asked atomic.Int64
		f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.HasSuffix(r.URL.Path, "getRecord") && asked.Add(1) > 2 {
				rw.WriteHeader(http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(rw, r)
		}
		w.between.Store(&f)
		require.Equal(t, hold.Garbage{Users: 1, Gone: gone, LayerRecords: gone}, w.collectGarbage(), "collection %d", i+1)
	}
	require.Empty(t, w.records("io.atcr.hold.layer"))
}
