package hold_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
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
		require.Equal(t, "BlobNotFound", w.getBlob(bob, bob, digest.FromBytes(tenth("one"))).errorName(), "its manifest was reserved, and did not come")
		require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(bob, bob, digest.FromBytes(tenth("two"))).status, "it need not go")
		w.join(carol)
		w.push(carol, tenth("one"))
	})
}

func TestAnEndlessBlobIsNotKept(t *testing.T) {
	w := newWorld(t, tiered)
	w.join(bob)
	require.Equal(t, http.StatusForbidden, w.put(bob, w.begin(bob), 1, bytes.Repeat([]byte("x"), 31)))
	require.Equal(t, "QuotaExceeded", w.whole(bob, digest.FromString("x"), strings.NewReader(strings.Repeat("x", 31))).errorName())
	require.Contains(t, w.series("atcr_hold_uploads_total"), `atcr_hold_uploads_total{outcome="refused"} 1`)
	w.push(bob, bytes.Repeat([]byte("x"), 30))
	w.push(alice, bytes.Repeat([]byte("x"), 31)) // the captain has no limit
}

// put sends one part and returns the status.
func (w *world) put(handle, id string, n int, b []byte) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, w.partURL(handle, id, n), bytes.NewReader(b))
	require.NoError(w.t, err)
	a := w.do(req)
	if a.status != http.StatusOK {
		require.Equal(w.t, "QuotaExceeded", a.errorName())
	}
	return a.status
}

func TestUploadsInProgressFillNoDisk(t *testing.T) {
	w := newWorld(t, tiered)
	w.join(bob)
	w.join(carol)
	one, two := w.begin(bob), w.begin(bob)
	twenty := bytes.Repeat([]byte("x"), 20)
	require.Equal(t, http.StatusOK, w.put(bob, one, 1, twenty))
	require.Equal(t, http.StatusForbidden, w.put(bob, two, 1, twenty), "all of them together have 30 bytes")
	require.Equal(t, http.StatusOK, w.put(carol, w.begin(carol), 1, twenty), "others have their own")
	require.Equal(t, http.StatusOK, w.put(bob, two, 1, twenty[:10]), "what was refused is not kept, and does not count")
	require.Equal(t, http.StatusForbidden, w.put(bob, two, 2, twenty[:1]))
	parts, err := filepath.Glob(filepath.Join(w.cfg.StorageRootDir, "uploads", "*", "*"))
	require.NoError(t, err)
	require.Len(t, parts, 3)

	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.abortUpload", object{"uploadId": one}).status)
	require.Equal(t, http.StatusOK, w.put(bob, two, 2, twenty))
	d := digest.FromBytes(append(twenty[:10:10], twenty...))
	require.Equal(t, http.StatusOK, w.complete(bob, two, d, object{"partNumber": 1}, object{"partNumber": 2}).status)
	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.deleteBlob", object{"digest": d}).status)
	three := w.begin(bob)
	require.Equal(t, http.StatusOK, w.put(bob, three, 1, twenty), "completed and aborted ones take nothing")

	// A part that breaks off is not kept.
	u, err := url.Parse(w.partURL(bob, three, 2))
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\nConnection: close\r\n\r\n%s", u.RequestURI(), u.Host, twenty[:10])
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "UploadFailed")
	require.Equal(t, http.StatusOK, w.put(bob, three, 2, twenty[:10]))
}

// An upload lives while bytes come: who only asks where to send them holds nothing up.
func TestAskingForURLsKeepsNoUploadOnADisk(t *testing.T) {
	w, now := at(t, public)
	w.hold.Quiet()
	idle, moving := w.begin(alice), w.begin(alice)
	w.part(alice, idle, 1, []byte("idle"))
	w.part(alice, moving, 1, []byte("moving"))
	now.add(23 * time.Hour)
	w.part(alice, moving, 2, []byte("moving"))
	require.Equal(t, http.StatusOK, w.put(alice, idle, 2, nil))
	now.add(2 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.Equal(t, http.StatusBadRequest, w.call(alice, "io.atcr.hold.getPartUploadUrl", object{"uploadId": idle, "partNumber": 3}).status)
	w.partURL(alice, moving, 3)
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

// A notification may leave out what the reservation listed, which keeps those blobs all the same.
func TestWhatWasReservedCountsWhateverTheNotificationLists(t *testing.T) {
	w := newWorld(t, tiered)
	w.join(bob)
	six := []byte("sixsix")
	w.push(bob, six)
	require.Equal(t, http.StatusOK, w.reserve(bob, "m", six).status)
	w.pushed(bob, "m", "")
	require.Equal(t, quota{w.did(bob).String(), 1, 6, 10, "swabbie"}, w.quotaOf(bob))
	w.pushed(bob, "m", "", six)
	require.Equal(t, quota{w.did(bob).String(), 1, 6, 10, "swabbie"}, w.quotaOf(bob), "the layer record is of the same blob")
	w.deleted(bob, "m", "")
	require.Zero(t, w.quotaOf(bob).TotalSize)
}

func TestDeletedImagesMakeSpaceBeforeTheLayersOfAPushThatTakesLong(t *testing.T) {
	w, now := at(t, tiered)
	w.join(bob)
	image := func(name string, layer []byte) {
		w.push(bob, layer)
		require.Equal(t, http.StatusOK, w.reserve(bob, name, layer).status)
		w.pushed(bob, name, "", layer)
	}
	for _, layer := range [][]byte{tenth("one"), tenth("two"), []byte("2b")} {
		image(string(layer), layer)
		w.deleted(bob, string(layer), "")
	}
	image("live", []byte("live"))
	first, second := []byte("1st"), []byte("2nd")
	w.push(bob, first)
	now.add(2 * time.Hour)
	w.push(bob, second)
	require.False(t, w.has(bob, string(tenth("one"))))
	require.Equal(t, http.StatusOK, w.reserve(bob, "m", first, second).status)
}

func TestBlobsOfNoManifestMakeSpaceTheOldestFirstAndOnlyUntilItIsEnough(t *testing.T) {
	w, now := at(t, tiered)
	w.join(bob)
	first, second := []byte("first"), []byte("second")
	for _, b := range [][]byte{tenth("one"), tenth("two"), first} {
		w.push(bob, b)
		now.add(2 * time.Hour)
	}
	w.push(bob, second)
	require.False(t, w.has(bob, string(tenth("one"))))
	require.True(t, w.has(bob, string(tenth("two"))))
	require.True(t, w.has(bob, string(first)))
	w.push(bob, []byte("seven b"))
	w.push(bob, []byte("eight b8"))
	require.False(t, w.has(bob, string(tenth("two"))), "a look that was enough for one blob keeps none from the next")
	require.Equal(t, http.StatusOK, w.reserve(bob, "m", first).status)
}

// crowded is a world in which bob has no space but what blobs of no manifest take.
func crowded(t *testing.T) *world {
	w, now := at(t, tiered)
	w.join(bob)
	for _, name := range []string{"one", "two", "three"} {
		w.push(bob, tenth(name))
	}
	now.add(2 * time.Hour)
	return w
}

func TestAPDSThatCouldNotBeReadIsReadAgainByTheNextRequest(t *testing.T) {
	w := crowded(t)
	down := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "listRecords") {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(rw, r)
	}
	w.between.Store(&down)
	w.startRefused(bob)
	w.between.Store(nil)
	w.push(bob, tenth("four"))
}

func TestAClientThatHangsUpLeavesTheSpaceToTheNext(t *testing.T) {
	w := crowded(t)
	token := w.token(bob)
	ctx, hangUp := context.WithCancel(t.Context())
	hook := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "listRecords") {
			hangUp()
		}
		next.ServeHTTP(rw, r)
	}
	w.between.Store(&hook)
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, w.url+"/xrpc/io.atcr.hold.initiateUpload", strings.NewReader(`{"digest":"x"}`))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	w.hold.Handler().ServeHTTP(httptest.NewRecorder(), req)
	require.Error(t, ctx.Err())
	w.between.Store(nil)
	gone := 0
	for _, name := range []string{"one", "two", "three"} {
		if !w.has(bob, string(tenth(name))) {
			gone++
		}
	}
	require.Equal(t, 1, gone)
}

// They may be back at any time: their user moves from one PDS to another.
func TestMissedManifestsMakeSpaceOnlyAfterTheGracePeriod(t *testing.T) {
	w, now := at(t, tiered)
	w.hold.Quiet()
	w.join(bob)
	all := []string{string(tenth("one")), string(tenth("two")), string(tenth("three"))}
	for _, b := range all {
		w.push(bob, []byte(b))
		m := image(b, b)
		w.publish(bob, m)
		w.tell(bob, m)
		w.unpublish(bob, digest.FromBytes(m))
		require.Equal(t, 1, w.collectGarbage().Gone)
	}
	now.add(2 * time.Hour)
	w.startRefused(bob)
	for _, b := range all {
		require.True(t, w.has(bob, b), b)
	}
	now.add(grace)
	w.push(bob, tenth("four"))
}
