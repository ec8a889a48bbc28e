package hold_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// manifest is a notification of a push by alice.
func (w *world) manifest(tag string, layers ...digest.Digest) object {
	named := []object{}
	for _, d := range layers {
		named = append(named, object{"digest": d, "size": 1, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"})
	}
	return object{
		"repository": "app", "userDid": w.did(alice), "manifestDigest": digest.FromString("manifest of " + tag), "tag": tag, "operation": "push",
		"manifest": object{"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": named},
	}
}

func (w *world) notify(handle string, in object) (answer struct {
	Success       bool
	Operation     string
	StatsUpdated  bool
	LayersCreated int
}) {
	w.t.Helper()
	a := w.call(handle, "io.atcr.hold.notifyManifest", in)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a.json(&answer)
	require.True(w.t, answer.Success)
	return answer
}

func (w *world) quota(handle string) (blobs, bytes int64) {
	w.t.Helper()
	a := w.query(nobody, "io.atcr.hold.getQuota", url.Values{"userDid": {w.did(handle).String()}})
	var out struct {
		UserDID                string
		UniqueBlobs, TotalSize int64
		Limit                  *int64
	}
	a.json(&out)
	require.Equal(w.t, w.did(handle).String(), out.UserDID)
	require.Nil(w.t, out.Limit)
	return out.UniqueBlobs, out.TotalSize
}

func TestAPushWritesLayerAndStatisticsRecords(t *testing.T) {
	w := newWorld(t, public)
	one, two := w.push(alice, []byte("one")), w.push(alice, []byte("second"))
	m := w.manifest("v1", one, two, one, digest.FromString("not in this hold"))
	answer := w.notify(alice, m)
	require.Equal(t, 2, answer.LayersCreated)
	require.True(t, answer.StatsUpdated)

	layers := w.records("io.atcr.hold.layer")
	require.Len(t, layers, 2)
	for _, l := range layers {
		require.Equal(t, "at://"+w.did(alice).String()+"/io.atcr.manifest/"+digest.FromString("manifest of v1").Encoded(), l.Value["manifest"])
		require.Equal(t, w.did(alice).String(), l.Value["userDid"])
		require.NotEmpty(t, l.Value["mediaType"])
		require.NotEmpty(t, l.Value["createdAt"])
		want := map[string]float64{one.String(): 3, two.String(): 6}
		require.Equal(t, want[l.Value["digest"].(string)], l.Value["size"], "the storage's size, not the caller's")
	}
	stats := w.records("io.atcr.hold.stats")
	require.Len(t, stats, 1)
	require.Equal(t, w.did(alice).String(), stats[0].Value["ownerDid"])
	require.Equal(t, "app", stats[0].Value["repository"])
	require.EqualValues(t, 1, stats[0].Value["pushCount"])
	require.EqualValues(t, 0, stats[0].Value["pullCount"])
	require.NotEmpty(t, stats[0].Value["lastPush"])

	blobs, bytes := w.quota(alice)
	require.EqualValues(t, 2, blobs)
	require.EqualValues(t, 9, bytes)
}

func TestTheSameNotificationTwiceChangesNothing(t *testing.T) {
	w := newWorld(t, public)
	m := w.manifest("v1", w.push(alice, []byte("one")))
	w.notify(alice, m)
	layers, stats := w.records("io.atcr.hold.layer"), w.records("io.atcr.hold.stats")
	for range 2 {
		answer := w.notify(alice, m)
		require.Zero(t, answer.LayersCreated)
		require.False(t, answer.StatsUpdated)
		require.Equal(t, layers, w.records("io.atcr.hold.layer"))
		require.Equal(t, stats, w.records("io.atcr.hold.stats"))
		w.restart(nil)
	}
}

func TestALayerOfTwoManifestsHasTwoRecordsAndCountsOnce(t *testing.T) {
	w := newWorld(t, public)
	d := w.push(alice, []byte("shared layer"))
	w.notify(alice, w.manifest("v1", d))
	w.notify(alice, w.manifest("v2", d))
	require.Len(t, w.records("io.atcr.hold.layer"), 2)
	blobs, bytes := w.quota(alice)
	require.EqualValues(t, 1, blobs)
	require.EqualValues(t, 12, bytes)
	require.EqualValues(t, 2, w.records("io.atcr.hold.stats")[0].Value["pushCount"])
}

func TestAManifestOfManyLayersIsWrittenWhole(t *testing.T) {
	w := newWorld(t, public)
	var all []digest.Digest
	for i := range 3 {
		all = append(all, w.push(alice, []byte{byte(i)}))
	}
	for i := range 300 { // more than one commit takes, most of them not in this hold
		all = append(all, digest.FromString(string(rune(i))))
	}
	require.Equal(t, 3, w.notify(alice, w.manifest("v1", all...)).LayersCreated)
}

func TestNobodyNotifiesForOthers(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	a := w.call(bob, "io.atcr.hold.notifyManifest", w.manifest("v1"))
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "UserMismatch", a.errorName())

	foreign := w.manifest("v1")
	foreign["userDid"] = w.did(mallory)
	a = w.call(mallory, "io.atcr.hold.notifyManifest", foreign)
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "Forbidden", a.errorName())

	odd := w.manifest("v1")
	odd["operation"] = "steal"
	require.Equal(t, "InvalidOperation", w.call(alice, "io.atcr.hold.notifyManifest", odd).errorName())
	require.Empty(t, w.records("io.atcr.hold.stats"))
}
