package index_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

const (
	limit = 30 * time.Second
	poll  = 20 * time.Millisecond
)

// clock is an AppView's, and can be set forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// beside opens the database of a running AppView.
func beside(t *testing.T, e storetest.Engine) *sql.DB {
	t.Helper()
	driver, name := "sqlite", "file:"+url.PathEscape(e.Path)+"?_pragma=busy_timeout(10000)"
	if e.URL != "" {
		driver, name = "pgx", e.URL
	}
	db, err := sql.Open(driver, name)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func outbox(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM outbox`).Scan(&n))
	return n
}

// layer pushes an image of one layer and returns the digest of its manifest.
func (w *world) layer(text string) digest.Digest {
	w.t.Helper()
	d := digest.FromString(text)
	status, body := w.do(http.MethodPost, "app", "/blobs/uploads/?digest="+string(d), []byte(text), "")
	require.Equal(w.t, 201, status, body)
	status, body = w.do(http.MethodPost, "app", "/blobs/uploads/?digest="+string(digest.FromString("{}")), []byte("{}"), "")
	require.Equal(w.t, 201, status, body)
	m, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": imageType,
		"config": map[string]any{"mediaType": "a/b", "digest": digest.FromString("{}"), "size": 2},
		"layers": []any{map[string]any{"mediaType": "a/b", "digest": d, "size": len(text)}}})
	require.NoError(w.t, err)
	status, body = w.do(http.MethodPut, "app", "/manifests/v1", m, imageType)
	require.Equal(w.t, 201, status, body)
	return digest.FromBytes(m)
}

// used is what alice's layers take of the hold.
func (w *world) used() int64 {
	w.t.Helper()
	resp, err := http.Get(w.HoldURL + "/xrpc/io.atcr.hold.getQuota?userDid=" + url.QueryEscape(w.did()))
	require.NoError(w.t, err)
	defer resp.Body.Close()
	var q struct{ TotalSize int64 }
	require.NoError(w.t, json.NewDecoder(resp.Body).Decode(&q))
	return q.TotalSize
}

// atDelete runs fault around the call with which a manifest is deleted on the PDS, once, when armed.
func atDelete(armed *atomic.Bool, fault func(forward func())) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			forward := func() { next.ServeHTTP(rw, r) }
			if strings.HasSuffix(r.URL.Path, "applyWrites") && armed.CompareAndSwap(true, false) {
				fault(forward)
				return
			}
			forward()
		})
	}
}

func TestTheHoldIsToldOfADeletionWhoseOutcomeTheDatabaseDidNotTake(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		db, armed, hours := beside(t, e), &atomic.Bool{}, &clock{}
		w := start(t, e, servertest.Options{Now: hours.now, WrapPDS: atDelete(armed, func(forward func()) {
			forward()
			_, err := db.ExecContext(t.Context(), `ALTER TABLE mirrors RENAME TO hidden`) // nothing can be written
			if err != nil {
				t.Error(err)
			}
		})})
		d := w.layer("layer")
		require.Eventually(t, func() bool { return w.used() == 5 }, limit, poll)
		armed.Store(true)
		status, body := w.do(http.MethodDelete, "app", "/manifests/"+string(d), nil, "")
		require.GreaterOrEqual(t, status, 500, body)
		require.Empty(t, w.list("io.atcr.manifest"), "the PDS did it")
		_, err := db.ExecContext(t.Context(), `ALTER TABLE hidden RENAME TO mirrors`)
		require.NoError(t, err)
		require.Equal(t, 404, w.status(http.MethodDelete, "app", "/manifests/"+string(d)), "the client tries again")
		require.EqualValues(t, 5, w.used())

		hours.forward(3 * time.Minute)
		require.Eventually(t, func() bool { return w.used() == 0 && outbox(t, db) == 0 }, limit, poll)
	})
}

func TestTheHoldIsNotToldOfADeletionThatDidNotHappen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		db, armed, hours := beside(t, e), &atomic.Bool{}, &clock{}
		w := start(t, e, servertest.Options{Now: hours.now, WrapPDS: atDelete(armed, func(func()) { panic(http.ErrAbortHandler) })})
		d := w.layer("layer")
		require.Eventually(t, func() bool { return w.used() == 5 && outbox(t, db) == 0 }, limit, poll)
		armed.Store(true)
		require.Equal(t, 503, w.status(http.MethodDelete, "app", "/manifests/"+string(d)))
		require.Equal(t, 1, outbox(t, db), "it may have happened")

		hours.forward(3 * time.Minute)
		require.Eventually(t, func() bool { return outbox(t, db) == 0 }, limit, poll)
		require.EqualValues(t, 5, w.used())
		require.Equal(t, 202, w.status(http.MethodDelete, "app", "/manifests/"+string(d)))
		require.Eventually(t, func() bool { return w.used() == 0 }, limit, poll)
	})
}

// The PDS may be away when the outcome is looked up, and the image may have been pushed again when it is back.
func TestADeletionOfUnknownOutcomeTakesNothingFromAPushThatCameAfterIt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		db, armed, hours, asked := beside(t, e), &atomic.Bool{}, &clock{}, &atomic.Int64{}
		var down atomic.Bool
		delete := atDelete(armed, func(forward func()) { forward(); panic(http.ErrAbortHandler) })
		w := start(t, e, servertest.Options{Now: hours.now, WrapPDS: func(next http.Handler) http.Handler {
			next = delete(next)
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if down.Load() && strings.HasSuffix(r.URL.Path, "getLatestCommit") {
					asked.Add(1)
					rw.WriteHeader(http.StatusBadGateway)
					_, _ = io.WriteString(rw, "{}")
					return
				}
				next.ServeHTTP(rw, r)
			})
		}})
		d := w.layer("layer")
		require.Eventually(t, func() bool { return w.used() == 5 && outbox(t, db) == 0 }, limit, poll)
		armed.Store(true)
		require.GreaterOrEqual(t, w.status(http.MethodDelete, "app", "/manifests/"+string(d)), 500)
		require.Empty(t, w.list("io.atcr.manifest"))
		down.Store(true)
		hours.forward(3 * time.Minute)
		require.Eventually(t, func() bool { return asked.Load() > 0 }, limit, poll)
		require.Equal(t, 1, outbox(t, db), "it is looked up again")
		down.Store(false)
		require.Equal(t, d, w.layer("layer"))
		hours.forward(time.Minute)
		require.Eventually(t, func() bool { return outbox(t, db) == 0 }, limit, poll)
		require.EqualValues(t, 5, w.used())
	})
}

// told runs the AppView over a hold that keeps the operations that it is told of, and is deaf when it should be.
type told struct {
	deaf atomic.Bool
	mu   sync.Mutex
	list []string
}

func (o *told) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "notifyManifest") {
			if o.deaf.Load() {
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			body, _ := io.ReadAll(r.Body) // what is missing the hold will say
			r.Body = io.NopCloser(bytes.NewReader(body))
			var n struct{ Operation, ManifestDigest string }
			_ = json.Unmarshal(body, &n)
			o.mu.Lock()
			o.list = append(o.list, n.Operation+" "+n.ManifestDigest)
			o.mu.Unlock()
		}
		next.ServeHTTP(rw, r)
	})
}

func (o *told) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list)
}

func TestWhatAHoldMissedIsToldInTheOrderInWhichItHappened(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		db, hours, hold := beside(t, e), &clock{}, &told{}
		hold.deaf.Store(true)
		w := start(t, e, servertest.Options{Now: hours.now, WrapHold: hold.wrap})
		first, second := w.layer("first"), w.layer("second")
		for range 2 {
			require.Equal(t, 202, w.status(http.MethodDelete, "app", "/manifests/"+string(first)))
			require.Equal(t, first, w.layer("first"))
		}
		require.Equal(t, 6, outbox(t, db))
		require.Empty(t, hold.all())
		hold.deaf.Store(false)
		hours.forward(2 * time.Hour) // whatever was put off is due
		require.Eventually(t, func() bool { return outbox(t, db) == 0 }, limit, poll)
		push, undo := "push "+string(first), "delete "+string(first)
		require.Equal(t, []string{push, "push " + string(second), undo, push, undo, push}, hold.all())
		require.EqualValues(t, len("first")+len("second"), w.used())
	})
}

func TestAHoldThatTakesNothingForAWeekIsGivenUpAndTheNextPushIsTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		db, hours, hold := beside(t, e), &clock{}, &told{}
		hold.deaf.Store(true)
		w := start(t, e, servertest.Options{Now: hours.now, WrapHold: hold.wrap})
		w.layer("first")
		hours.forward(6 * 24 * time.Hour)
		attempts := func() (n int) {
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT coalesce(max(attempts), 0) FROM outbox`).Scan(&n))
			return n
		}
		before := attempts()
		hours.forward(2 * time.Hour)
		require.Eventually(t, func() bool { return attempts() > before }, limit, poll)
		require.Equal(t, 1, outbox(t, db), "within the week it is tried again")
		hours.forward(2 * 24 * time.Hour)
		require.Eventually(t, func() bool { return outbox(t, db) == 0 }, limit, poll)
		require.Empty(t, hold.all())
		hold.deaf.Store(false)
		second := w.layer("second")
		require.Eventually(t, func() bool { return slices.Equal(hold.all(), []string{"push " + string(second)}) }, limit, poll)
	})
}
