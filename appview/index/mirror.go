package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/store"
)

// Collections that are mirrored, and the profile.
const (
	CollectionManifest = records.CollectionManifest
	CollectionTag      = records.CollectionTag
	CollectionProfile  = records.CollectionProfile
)

// ErrNotFound says that the DID has no such record, as far as can be known now.
var ErrNotFound = errors.New("not found")

// Config is what a [Mirror] is made of; every field is needed.
type Config struct {
	PDS   *atproto.PDS
	Store *store.DB
	Log   *slog.Logger
	// TTL is how old the mirror of a DID may be before a tag is answered from it; a manifest that is there is
	// answered at any age, since a digest never changes.
	TTL time.Duration
	// CacheBytes bounds the manifest bytes kept in memory, and four times the pages of referrers; StoreBytes those kept in
	// the store, see [Mirror.Sweep].
	CacheBytes, StoreBytes int64
	Now                    func() time.Time
}

// How long a PDS that failed is not asked again: pulls are answered from the mirror meanwhile, at once.
const failurePause = 5 * time.Second

// Mirror holds the records of the DIDs that the server has met. It is safe for concurrent use, and by several
// processes over one database.
type Mirror struct {
	Config
	queues *lru.Cache[syntax.DID, *queue]
	mu     sync.Mutex // guards creation of queues
	flight singleflight.Group
	bytes  *byteCache[digest.Digest]
	pages  *byteCache[pageKey]
	parses *semaphore.Weighted // of bytes; see [Mirror.Document]
	recent *lru.Cache[answerKey, answer]
	absent *lru.Cache[answerKey, answer] // what is not there; apart, so that asking for much of it costs no good answers

	chosen   *lru.Cache[syntax.DID, chosenHold]
	profiled *lru.Cache[syntax.DID, struct{}] // users whose profile is known to exist

	counts *counters

	allRows int64 // of all mirrors
}

// queue orders the writes and syncs of one DID in this process, and remembers what the database does not.
type queue struct {
	mu sync.Mutex

	generation atomic.Uint64 // of the embedded store; see [Mirror.generation]
	latest     latest        // of a shared one

	read, noted atomic.Int64 // days on which the DID was asked for last, and of which the store knows; see [Mirror.noteReads]

	state    sync.Mutex // guards what follows
	syncedAt time.Time
	failedAt time.Time
	failure  error
}

// New makes a mirror.
func New(c Config) *Mirror {
	queues, _ := lru.New[syntax.DID, *queue](50_000)
	chosen, _ := lru.New[syntax.DID, chosenHold](10_000)
	profiled, _ := lru.New[syntax.DID, struct{}](50_000)
	recent, _ := lru.New[answerKey, answer](20_000)
	absent, _ := lru.New[answerKey, answer](5_000)
	return &Mirror{Config: c, queues: queues, bytes: newBodies(c.CacheBytes), pages: newByteCache(c.CacheBytes/4, pageKey.size), parses: semaphore.NewWeighted(parseRoom), recent: recent, absent: absent, chosen: chosen, profiled: profiled,
		counts: newCounters(), allRows: maxAllRows}
}

func newBodies(limit int64) *byteCache[digest.Digest] {
	return newByteCache(limit, func(d digest.Digest) int { return len(d) })
}

func (m *Mirror) queue(did syntax.DID) *queue {
	m.mu.Lock()
	defer m.mu.Unlock()
	today := day(m.Now())
	if q, ok := m.queues.Get(did); ok {
		if q.read.Load() != today {
			q.read.Store(today)
		}
		return q
	}
	q := &queue{}
	q.read.Store(today)
	q.generation.Store(uint64(time.Now().UnixNano())) // never one that an earlier queue of the DID had
	m.queues.Add(did, q)
	return q
}

// mirrorLock names the changes of a DID's rows, which happen one at a time among all replicas.
func mirrorLock(did syntax.DID) string { return "mirror " + string(did) }

// head is the revision that the mirror of a DID stands at: the rows are those of rev, if commit is not empty. Without
// it they hold a write of ours at rev, but maybe not all that others wrote before it.
type head struct {
	rev, commit string
	known       bool // the DID has been mirrored, all of it
	at          time.Time
	readAt      time.Time // when somebody asked for the DID last, exact to a day
	generation  uint64
}

func (m *Mirror) head(ctx context.Context, did syntax.DID) (head, error) {
	return readOne(ctx, m.Store, func(q querier) (head, error) { return readHead(ctx, q, did) })
}

func readHead(ctx context.Context, q querier, did syntax.DID) (head, error) {
	var h head
	var at, readAt int64
	err := q.QueryRowContext(ctx, `SELECT rev, commit_cid, synced_at, read_at, generation FROM mirrors WHERE did = $1`, string(did)).
		Scan(&h.rev, &h.commit, &at, &readAt, &h.generation)
	if errors.Is(err, sql.ErrNoRows) {
		return head{}, nil
	}
	if err != nil {
		return head{}, fmt.Errorf("read mirror: %w", err)
	}
	h.known, h.at, h.readAt = h.rev != "", time.UnixMicro(at), time.Unix(readAt, 0)
	return h, nil
}

// writeHead moves the head, and with it the generation: it belongs to every change of the DID's rows. The first generation
// is the time, so that none comes back after a mirror was dropped.
func writeHead(ctx context.Context, q store.Tx, did syntax.DID, h head, at time.Time) error {
	_, err := q.ExecContext(ctx, `INSERT INTO mirrors (did, rev, commit_cid, synced_at, generation, read_at) VALUES ($1, $2, $3, $4, $4, $5)
		ON CONFLICT (did) DO UPDATE SET rev = excluded.rev, commit_cid = excluded.commit_cid, synced_at = excluded.synced_at,
			generation = mirrors.generation + 1,
			read_at = CASE WHEN mirrors.read_at < excluded.read_at THEN excluded.read_at ELSE mirrors.read_at END`,
		string(did), h.rev, h.commit, at.UnixMicro(), day(at))
	if err != nil {
		return fmt.Errorf("write mirror: %w", err)
	}
	return nil
}

// Fresh makes sure that the mirror of did is at most maxAge old. When the PDS cannot be asked but the DID was mirrored
// before, that is good enough: the failure is logged, and pulls go on.
func (m *Mirror) Fresh(ctx context.Context, did syntax.DID, maxAge time.Duration) error {
	_, err := m.fresh(ctx, did, maxAge)
	return err
}

// fresh is Fresh, and says why the mirror is older than asked for, if it is.
func (m *Mirror) fresh(ctx context.Context, did syntax.DID, maxAge time.Duration) (old, err error) {
	q := m.queue(did)
	now := m.Now()
	q.state.Lock()
	fresh := now.Sub(q.syncedAt) < maxAge
	if now.Sub(q.failedAt) < failurePause {
		old = q.failure
	}
	q.state.Unlock()
	if fresh {
		return nil, nil
	}
	if old == nil {
		r, err := m.await(ctx, did, m.startSync(ctx, did, q, false))
		if err != nil {
			return nil, err
		}
		if old = r.Err; old == nil {
			return nil, nil
		}
	}
	h, err := m.head(ctx, did)
	if err != nil {
		return nil, err
	}
	if !h.known || errors.Is(old, atproto.ErrUnknownIdentity) {
		return nil, old
	}
	if !errors.Is(old, errWriting) {
		m.counts.stale.Add(1)
	}
	m.Log.DebugContext(ctx, "answering from the mirror", "did", did, "age", now.Sub(h.at).Round(time.Second), "error", old)
	return old, nil
}

// startSync syncs in the background, or joins the sync that runs.
func (m *Mirror) startSync(ctx context.Context, did syntax.DID, q *queue, wait bool) <-chan singleflight.Result {
	key := "sync "
	if wait {
		key = "settle "
	}
	return m.flight.DoChan(key+string(did), func() (_ any, err error) {
		defer background.Caught(ctx, m.Log, "reading the records of an account", &err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		return nil, m.syncInTurn(ctx, did, q, wait)
	})
}

// Settled makes sure, unlike [Mirror.Fresh], that what is not in the mirror of did was not there at most maxAge ago: it
// waits for a sync or a write that takes long, and fails when the PDS cannot be asked.
func (m *Mirror) Settled(ctx context.Context, did syntax.DID, maxAge time.Duration) error {
	old, err := m.fresh(ctx, did, maxAge)
	if err != nil || old == nil {
		return err
	}
	return m.outlast(ctx, did, old)
}

// outlast waits for what keeps the mirror old, if it is something that ends.
func (m *Mirror) outlast(ctx context.Context, did syntax.DID, old error) error {
	if !errors.Is(old, errSlow) && !errors.Is(old, errWriting) {
		return old
	}
	select {
	case r := <-m.startSync(ctx, did, m.queue(did), true):
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look reads what others may have written. That something is there is true at any age of the mirror; that it is not is
// only said after the PDS was asked, however long that takes: clients act on a 404.
func look[T any](ctx context.Context, m *Mirror, did syntax.DID, get func() (T, error)) (v T, err error) {
	old, err := m.fresh(ctx, did, m.TTL)
	if err != nil {
		return v, err
	}
	if v, err = get(); old == nil || !errors.Is(err, ErrNotFound) {
		return v, err
	}
	if err := m.outlast(ctx, did, old); err != nil {
		return v, err
	}
	return get()
}

// patience is how long a request waits for a PDS when there is something to answer from.
const patience = 3 * time.Second

// await waits for a sync, but not long for a PDS that does not answer, if the DID was mirrored before.
func (m *Mirror) await(ctx context.Context, did syntax.DID, ch <-chan singleflight.Result) (singleflight.Result, error) {
	slow := time.NewTimer(patience)
	defer slow.Stop()
	for {
		select {
		case <-ctx.Done():
			return singleflight.Result{}, ctx.Err()
		case r := <-ch:
			return r, nil
		case <-slow.C:
			h, err := m.head(ctx, did)
			if err != nil {
				return singleflight.Result{}, err
			}
			if h.known {
				q := m.queue(did)
				q.state.Lock()
				q.failedAt, q.failure = m.Now(), errSlow // the next requests do not wait at all
				q.state.Unlock()
				return singleflight.Result{Err: errSlow}, nil
			}
		}
	}
}

var (
	errSlow    = fmt.Errorf("%w: the PDS takes its time", atproto.ErrUnavailable)
	errWriting = fmt.Errorf("%w: a write is under way", ErrBusy)
)

// syncInTurn syncs when no write is under way. It does not wait for one when there is something to answer from, unless
// told to: a push to a slow PDS must not hold up pulls, and brings the mirror up to date itself.
func (m *Mirror) syncInTurn(ctx context.Context, did syntax.DID, q *queue, wait bool) error {
	if wait {
		q.mu.Lock()
	} else if !q.mu.TryLock() {
		if h, err := m.head(ctx, did); err != nil {
			return err
		} else if h.known {
			return errWriting
		}
		q.mu.Lock()
	}
	defer q.mu.Unlock()
	_, err := m.sync(ctx, did, q)
	return err
}

// sync brings the mirror up to the repository's head. The caller holds q.mu.
func (m *Mirror) sync(ctx context.Context, did syntax.DID, q *queue) (head, error) {
	h, result, err := m.syncOnce(ctx, did, q)
	for try := 1; try < swapTries && errors.Is(err, errOvertaken); try++ {
		h, result, err = m.syncOnce(ctx, did, q)
	}
	if err != nil {
		result = SyncFailed
	}
	m.counts.syncs[result].Add(1)
	q.state.Lock()
	defer q.state.Unlock()
	if err != nil {
		q.failedAt, q.failure = m.Now(), err
		return head{}, err
	}
	q.syncedAt, q.failedAt, q.failure = m.Now(), time.Time{}, nil
	return h, nil
}

func (m *Mirror) syncOnce(ctx context.Context, did syntax.DID, q *queue) (_ head, result string, err error) {
	before, err := m.head(ctx, did)
	if err != nil {
		return head{}, "", err
	}
	started := m.Now()
	commit, rev, err := m.PDS.LatestCommit(ctx, did)
	if err != nil {
		return head{}, "", err
	}
	now := head{rev: rev, commit: commit, known: true}
	if before.known && before.rev == rev && before.commit == commit {
		m.noteRead(ctx, did, before) // nothing else to write: this happens for every active DID every few seconds
		return now, SyncUnchanged, nil
	}
	list, err := m.list(ctx, did)
	if err != nil {
		return head{}, "", err
	}
	result = SyncRead
	if list.dropped > 0 {
		result = SyncTruncated
		m.Log.WarnContext(ctx, "an account has more records than are mirrored: the newest are served", "did", did,
			"manifests", len(list.manifests), "tags", len(list.tags), "left out", list.dropped)
	}
	defer q.generation.Add(1)
	now, err = m.takeUp(ctx, did, list, now, started)
	return now, result, err
}

// list reads the tags before the manifests: a tag that appears meanwhile is left for the next time, where the other
// way around it would be seen without its manifest.
func (m *Mirror) list(ctx context.Context, did syntax.DID) (*listed, error) {
	l := newListed(maxRows)
	seen := map[string]bool{} // keys of tags: pages overlap when records come and go meanwhile
	for r, err := range m.PDS.AllRecords(ctx, did, CollectionTag, atproto.MaxCollection) {
		if err != nil {
			return nil, err
		}
		if row, err := tagOf(did, r); err == nil {
			if !seen[row.RKey] {
				l.tags = append(l.tags, row)
			}
			seen[row.RKey] = true
		} else {
			m.Log.DebugContext(ctx, "record is not a tag", "uri", r.URI, "error", err)
		}
	}
	for r, err := range m.PDS.AllRecords(ctx, did, CollectionManifest, atproto.MaxCollection) {
		if err != nil {
			return nil, err
		}
		row, err := manifestOf(did, r)
		if err != nil {
			m.Log.DebugContext(ctx, "record is not a manifest", "uri", r.URI, "error", err)
			continue
		}
		if trimmed(r.Value) && row.BlobCID != "" {
			m.fill(ctx, row)
		}
		l.add(row)
	}
	l.finish()
	return l, nil
}

// difference is what must change in the store so that it holds what was listed. Records whose CID is stored already
// are left alone.
func (m *Mirror) difference(ctx context.Context, q querier, did syntax.DID, l *listed) (*change, error) {
	c := &change{fresh: map[digest.Digest]bool{}}
	manifests, err := cids(ctx, q, `SELECT digest, cid FROM manifests WHERE did = $1`, did)
	if err != nil {
		return nil, err
	}
	for _, row := range l.manifests {
		cid, known := manifests[string(row.Digest)]
		if !known || cid != row.CID {
			c.putManifests = append(c.putManifests, row)
			c.fresh[row.Digest] = !known
		}
		delete(manifests, string(row.Digest))
	}
	for d := range manifests {
		c.deleteManifests = append(c.deleteManifests, digest.Digest(d))
	}
	tags, err := cids(ctx, q, `SELECT rkey, cid FROM tags WHERE did = $1`, did)
	if err != nil {
		return nil, err
	}
	for _, row := range l.tags {
		if tags[row.RKey] != row.CID {
			c.putTags = append(c.putTags, row)
		}
		delete(tags, row.RKey)
	}
	for rkey := range tags {
		c.deleteTags = append(c.deleteTags, rkey)
	}
	return c, nil
}

func cids(ctx context.Context, q querier, query string, did syntax.DID) (map[string]string, error) {
	rows, err := q.QueryContext(ctx, query, string(did))
	if err != nil {
		return nil, fmt.Errorf("read mirror: %w", err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var key, cid string
		if err := rows.Scan(&key, &cid); err != nil {
			return nil, fmt.Errorf("read mirror: %w", err)
		}
		out[key] = cid
	}
	return out, rows.Err()
}
