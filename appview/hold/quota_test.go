package hold_test

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// tiered is a public hold that takes everybody, with small quotas.
func tiered(c *hold.Config) {
	c.Public, c.AllowAllCrew = true, true
	c.QuotaTiers, c.NewCrewTier, c.PlankownerCrewTier = "brig=1B, swabbie=10B,deckhand=1KB,bosun=1KiB,quartermaster", "swabbie", "bosun"
}

type quota struct {
	UserDID                string
	UniqueBlobs, TotalSize int64
	Limit                  int64
	Tier                   string
}

func (w *world) quotaOf(handle string) (q quota) {
	w.t.Helper()
	w.query(nobody, "io.atcr.hold.getQuota", url.Values{"userDid": {w.did(handle).String()}}).json(&q)
	return q
}

func (w *world) join(handle string) {
	w.t.Helper()
	require.Equal(w.t, http.StatusCreated, w.call(handle, "io.atcr.hold.requestCrew", object{}).status)
}

// reserve asks for a manifest of that name with these layers.
func (w *world) reserve(handle, name string, layers ...[]byte) reply {
	w.t.Helper()
	named := []object{}
	for _, b := range layers {
		named = append(named, object{"digest": digest.FromBytes(b), "size": len(b)})
	}
	return w.call(handle, "io.atcr.hold.reserveManifest", object{"manifestDigest": digest.FromString(name), "layers": named})
}

// pushed notifies of a push of a manifest of that name.
func (w *world) pushed(handle, name, rev string, layers ...[]byte) {
	w.t.Helper()
	named := []object{}
	for _, b := range layers {
		named = append(named, object{"digest": digest.FromBytes(b), "size": len(b), "mediaType": "application/vnd.oci.image.layer.v1.tar"})
	}
	w.notify(handle, object{"repository": "app", "userDid": w.did(handle), "manifestDigest": digest.FromString(name), "rev": rev,
		"tag": name, "operation": "push", "manifest": object{"layers": named}})
}

func TestAUserIsRefusedWhatDoesNotFitTheTier(t *testing.T) {
	w := newWorld(t, tiered)
	w.join(bob)
	six, four, five := []byte("sixsix"), []byte("four"), []byte("fives")
	for _, b := range [][]byte{six, four, five} {
		w.push(bob, b)
	}
	require.Equal(t, http.StatusOK, w.reserve(bob, "first", six).status)
	w.pushed(bob, "first", "", six)
	require.Equal(t, quota{w.did(bob).String(), 1, 6, 10, "swabbie"}, w.quotaOf(bob))

	a := w.reserve(bob, "second", six, five)
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "QuotaExceeded", a.errorName())
	var detail struct{ TotalSize, Needed, Limit int64 }
	a.json(&detail)
	require.EqualValues(t, 6, detail.TotalSize)
	require.EqualValues(t, 5, detail.Needed)
	require.EqualValues(t, 10, detail.Limit)
	require.Contains(t, string(a.body), "captain "+w.did(alice).String())

	require.Equal(t, http.StatusOK, w.reserve(bob, "third", six, four).status, "a refused reservation takes no place; what is there already costs nothing")
	w.pushed(bob, "third", "", six, four)
	require.EqualValues(t, 10, w.quotaOf(bob).TotalSize)
	require.Equal(t, http.StatusOK, w.reserve(bob, "again", four, six).status, "a full quota takes what adds nothing")
}

func TestOfPushesAtOnceThatFitOnlyAloneOneIsTaken(t *testing.T) {
	w := newWorld(t, tiered)
	w.join(bob)
	const n = 5 // as many as there is space for
	var tokens [n]string
	for i := range n {
		w.push(bob, fmt.Appendf(nil, "layer%d", i))
		tokens[i] = w.token(bob)
	}
	var statuses [n]int
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			b := fmt.Appendf(nil, "layer%d", i)
			statuses[i] = w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.reserveManifest", tokens[i],
				object{"manifestDigest": digest.FromBytes(b), "layers": []object{{"digest": digest.FromBytes(b), "size": len(b)}}}).status
		})
	}
	wg.Wait()
	taken := 0
	for _, s := range statuses {
		if s == http.StatusOK {
			taken++
		} else {
			require.Equal(t, http.StatusForbidden, s)
		}
	}
	require.Equal(t, 1, taken)
}

func TestAReservationThatNoPushFollowsGivesItsPlaceBack(t *testing.T) {
	w, now := at(t, tiered)
	w.join(bob)
	w.push(bob, []byte("abandoned"))
	w.push(bob, []byte("wanted"))
	require.Equal(t, http.StatusOK, w.reserve(bob, "abandoned", []byte("abandoned")).status)
	require.Equal(t, "QuotaExceeded", w.reserve(bob, "wanted", []byte("wanted")).errorName())
	now.add(16 * time.Minute)
	require.Equal(t, http.StatusOK, w.reserve(bob, "wanted", []byte("wanted")).status)
}

func TestAReservationNamesTheBlobThatIsNotAsTheManifestSays(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	d := w.push(alice, []byte("layer"))
	a := w.reserve(alice, "m", []byte("layer"), []byte("never pushed"))
	require.Equal(t, http.StatusNotFound, a.status)
	require.Equal(t, "BlobNotFound", a.errorName())
	require.Contains(t, string(a.body), digest.FromString("never pushed").String())
	require.Equal(t, "BlobNotFound", w.reserve(bob, "m", []byte("layer")).errorName(), "another user's blob is as absent as one that nobody has")

	a = w.call(alice, "io.atcr.hold.reserveManifest", object{"manifestDigest": digest.FromString("m"), "config": object{"digest": d, "size": 4}})
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Equal(t, "SizeMismatch", a.errorName())
	require.Contains(t, string(a.body), `"size":5`)

	for name, in := range map[string]object{
		"no digest":     {},
		"a bad layer":   {"manifestDigest": digest.FromString("m"), "layers": []object{{"digest": "sha256:x"}}},
		"negative size": {"manifestDigest": digest.FromString("m"), "layers": []object{{"digest": d, "size": -1}}},
	} {
		require.Equal(t, "InvalidDigest", w.call(alice, "io.atcr.hold.reserveManifest", in).errorName(), name)
	}
	require.Equal(t, http.StatusForbidden, w.reserve(mallory, "m").status)
	require.Equal(t, http.StatusUnauthorized, w.reserve(nobody, "m").status)
}

func TestTheTierIsTheCrewRecords(t *testing.T) {
	w := newWorld(t, tiered)
	write := func(handle string, extra object) {
		record := object{"$type": "io.atcr.hold.crew", "member": w.did(handle), "role": "member",
			"permissions": []string{"blob:write"}, "addedAt": "2026-01-01T00:00:00.000Z"}
		for k, v := range extra {
			record[k] = v
		}
		a := w.call(alice, "com.atproto.repo.putRecord", object{"repo": w.hold.DID(), "collection": "io.atcr.hold.crew", "rkey": "of-" + handle, "record": record})
		require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	}
	for _, tt := range []struct {
		extra object
		tier  string
		limit int64
	}{
		{nil, "swabbie", 10},
		{object{"tier": "deckhand"}, "deckhand", 1000},
		{object{"tier": "bosun"}, "bosun", 1024},
		{object{"tier": "quartermaster"}, "quartermaster", 0},
		{object{"tier": "admiral"}, "swabbie", 10},
		{object{"plankowner": true}, "bosun", 1024},
		{object{"plankowner": true, "tier": "brig"}, "brig", 1},
	} {
		write(bob, tt.extra)
		q := w.quotaOf(bob)
		require.Equal(t, tt.tier, q.Tier, "%v", tt.extra)
		require.Equal(t, tt.limit, q.Limit, "%v", tt.extra)
	}
	require.Equal(t, "swabbie", w.quotaOf(carol).Tier, "what a newcomer would have")
	require.Zero(t, w.quotaOf(alice).Limit, "the captain has no limit")

	a := w.query(nobody, "io.atcr.hold.listTiers", nil)
	require.JSONEq(t, `{"tiers":[{"name":"brig","limit":1},{"name":"swabbie","limit":10},{"name":"deckhand","limit":1000},
		{"name":"bosun","limit":1024},{"name":"quartermaster"}]}`, string(a.body))

	w.restart(func(c *hold.Config) { c.QuotaTiers, c.NewCrewTier, c.PlankownerCrewTier = "", "", "" })
	require.Zero(t, w.quotaOf(carol).Limit)
	require.JSONEq(t, `{"tiers":[]}`, string(w.query(nobody, "io.atcr.hold.listTiers", nil).body))
}

func TestWhoUsesMoreThanTheQuotaStartsNoUpload(t *testing.T) {
	w := newWorld(t, tiered)
	w.join(bob)
	w.push(bob, []byte("tenletters"))
	require.Equal(t, http.StatusOK, w.reserve(bob, "m", []byte("tenletters")).status)
	w.pushed(bob, "m", "", []byte("tenletters"))

	w.restart(func(c *hold.Config) { c.NewCrewTier = "brig" })
	a := w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"})
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "QuotaExceeded", a.errorName())
}

// A registry that dies right after it began an upload has no id to abort it by.
func TestUploadsThatNobodyContinuesMakeRoomForOthersOfTheirUser(t *testing.T) {
	onBothDrivers(t, func(c *hold.Config) { public(c); c.MaxUploads = 2 }, func(t *testing.T, w *world) {
		now := w.clocked()
		left, moving := w.begin(alice), w.begin(alice)
		now.add(59 * time.Minute)
		w.part(alice, moving, 1, []byte("layer"))
		require.Equal(t, http.StatusTooManyRequests, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status, "it may still be continued")
		now.add(2 * time.Minute)
		next := w.begin(alice)
		require.Equal(t, http.StatusBadRequest, w.call(alice, "io.atcr.hold.getPartUploadUrl", object{"uploadId": left, "partNumber": 1}).status)
		require.Equal(t, http.StatusTooManyRequests, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status, "the others are not old enough")
		require.Equal(t, http.StatusOK, w.complete(alice, moving, digest.FromString("layer"), object{"partNumber": 1, "etag": w.part(alice, moving, 1, []byte("layer"))["etag"]}).status)
		require.Equal(t, http.StatusOK, w.complete(alice, next, digest.FromString("")).status)
	})
}

// The hold takes the whole blob as one part that comes for hours: it does not stand still.
func TestAPartThatComesSlowlyMakesNoRoom(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { public(c); c.MaxUploads = 1 })
	now := w.clocked()
	id := w.begin(alice)
	body, send := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.partURL(alice, id, 1), body)
	require.NoError(t, err)
	etag := make(chan string, 1)
	go func() {
		defer close(etag)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		etag <- resp.Header.Get("ETag")
	}()
	touched := func() (at int64) {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(w.cfg.DatabaseDir, "ledger.sqlite")+"?mode=ro&_pragma=busy_timeout(10000)")
		require.NoError(t, err)
		defer db.Close()
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT touched_at FROM uploads WHERE id = ?`, id).Scan(&at))
		return at
	}
	blob := ""
	for range 3 {
		before := touched()
		now.add(40 * time.Minute)
		require.Eventually(t, func() bool { // more than once: the first piece may come before the clock was moved
			now.add(2 * time.Minute)
			_, err := io.WriteString(send, "piece")
			blob += "piece"
			return err == nil && touched() > before
		}, 30*time.Second, 10*time.Millisecond)
		require.Equal(t, http.StatusTooManyRequests, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
	}
	require.NoError(t, send.Close())
	require.Equal(t, http.StatusOK, w.complete(alice, id, digest.FromString(blob), object{"partNumber": 1, "etag": <-etag}).status)
}

func TestUploadsInProgressAreBoundedForEachUser(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { public(c); c.MaxUploads = 2 })
	w.addCrew(bob, "blob:write")
	first := w.begin(alice)
	w.begin(alice)
	a := w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"})
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Equal(t, "TooManyUploads", a.errorName())
	require.NotEmpty(t, a.header.Get("Retry-After"))
	w.begin(bob)
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.abortUpload", object{"uploadId": first}).status)
	second := w.begin(alice)
	require.Equal(t, http.StatusOK, w.complete(alice, second, digest.FromString("")).status)
	w.begin(alice)
}
