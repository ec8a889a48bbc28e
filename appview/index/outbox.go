package index

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/store"
)

// outboxItem is a notification that is stored in the transaction of the change that it tells of.
type outboxItem struct {
	id           string
	did, hold    syntax.DID
	notification holdclient.Notification
	// record is the key of the manifest record whose deletion the notification tells of. Such a row is stored before the
	// PDS is asked as well: when nobody lives to store the outcome, whoever delivers it looks whether the record is gone.
	record string
}

// insert stores a notification that is due now.
func (o *outboxItem) insert(ctx context.Context, q store.Tx, now time.Time) error {
	return o.put(ctx, q, "", now, now)
}

// prepare stores a deletion that is to be attempted now, and is due when no attempt can be under way any more.
func (o *outboxItem) prepare(ctx context.Context, q store.Tx, now time.Time) error {
	return o.put(ctx, q, o.record, now, now.Add(outboxDoubt))
}

func (o *outboxItem) put(ctx context.Context, q store.Tx, record string, now, due time.Time) error {
	payload, err := json.Marshal(o.notification)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	_, err = q.ExecContext(ctx, `INSERT INTO outbox (id, did, hold, payload, record, attempts, due_at, created_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $7)
		ON CONFLICT (id) DO UPDATE SET payload = excluded.payload, record = excluded.record, due_at = excluded.due_at, created_at = excluded.created_at`,
		o.id, string(o.did), string(o.hold), string(payload), record, due.UnixMicro(), now.UnixMicro())
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

const (
	outboxPoll   = time.Second
	outboxHolds  = 16                 // that one replica talks to at a time
	outboxBatch  = 20                 // notifications of one hold before others get their turn
	outboxTurn   = 30 * time.Second   // and how long that may take
	outboxCall   = 15 * time.Second   // for one of them
	outboxLease  = 2 * time.Minute    // a replica that dies in its turn gives it up after this
	outboxFirst  = 2 * time.Second    // until the second attempt; then twice as long each time
	outboxLast   = time.Hour          // at most
	outboxGiveUp = 7 * 24 * time.Hour // after the push
	outboxDoubt  = 2 * time.Minute    // until a deletion without an outcome is looked at: twice what a call to a PDS may take
)

// Deliver sends the outbox until ctx ends. Each hold has a queue of its own: one that hangs delays no other. Of several
// replicas one at a time talks to a hold, and what one user did comes in order.
func (m *Mirror) Deliver(ctx context.Context, holds *holdclient.Client) {
	tick := time.NewTicker(outboxPoll)
	defer tick.Stop()
	turns := turns{busy: map[string]bool{}}
	defer turns.wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due, err := m.texts(ctx, `SELECT hold FROM outbox WHERE due_at <= $1 GROUP BY hold ORDER BY min(due_at), hold LIMIT 100`,
			m.Now().UnixMicro())
		if err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "outbox", "error", err)
		}
		for _, hold := range due {
			turns.take(hold, func() {
				deliver := background.Safely(ctx, m.Log, "delivering notifications", func() error { return m.deliverTo(ctx, holds, hold) })
				if err := deliver(); err != nil && ctx.Err() == nil {
					m.Log.WarnContext(ctx, "outbox", "hold", hold, "error", err)
				}
			})
		}
	}
}

// turns runs one function for each hold at a time, and outboxHolds in all.
type turns struct {
	mu   sync.Mutex
	busy map[string]bool
	all  sync.WaitGroup
}

// take starts fn, unless the hold has its turn already or everybody is busy.
func (t *turns) take(hold string, fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[hold] || len(t.busy) == outboxHolds {
		return
	}
	t.busy[hold] = true
	t.all.Go(func() {
		defer func() {
			t.mu.Lock()
			delete(t.busy, hold)
			t.mu.Unlock()
		}()
		fn()
	})
}

func (t *turns) wait() { t.all.Wait() }

type dueItem struct {
	id, did, payload, record string
	attempts, created        int64
}

// deliverTo is the turn of one hold. Whoever has something due is sent all of it in order, also what was put off: a
// deletion must not arrive before the push that it undoes.
func (m *Mirror) deliverTo(ctx context.Context, holds *holdclient.Client, hold string) error {
	release, ok, err := m.Store.TryLease(ctx, "outbox "+hold, outboxLease)
	if err != nil || !ok {
		return err // another replica has the turn
	}
	defer release()
	due, err := readOne(ctx, m.Store, func(q querier) ([]dueItem, error) {
		return scanDue(q.QueryContext(ctx, `SELECT id, did, payload, record, attempts, created_at FROM outbox
			WHERE hold = $1 AND did IN (SELECT did FROM outbox WHERE hold = $1 AND due_at <= $2) AND (record = '' OR due_at <= $2)
			ORDER BY created_at, id LIMIT $3`, hold, m.Now().UnixMicro(), outboxBatch))
	})
	if err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	started, failed := m.Now(), map[string]bool{}
	for _, i := range due {
		if ctx.Err() != nil || m.Now().Sub(started) > outboxTurn {
			return nil
		}
		if failed[i.did] {
			continue
		}
		failure := m.deliver(ctx, holds, hold, i)
		if ctx.Err() != nil {
			return nil // stopped in the middle: it is still there
		}
		if err := m.settle(ctx, hold, i, failure); err != nil {
			return err
		}
		if failure != nil && ofHold(failure) {
			return nil
		}
		failed[i.did] = failure != nil
	}
	return nil
}

// ofHold says whether a failure is the hold's, so that nobody's notifications would get through now.
func ofHold(err error) bool {
	kind, ok := holdclient.KindOf(err)
	return ok && (kind == holdclient.Unavailable || kind == holdclient.RateLimited || kind == holdclient.Misconfigured)
}

func scanDue(rows *sql.Rows, err error) (due []dueItem, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var i dueItem
		if err := rows.Scan(&i.id, &i.did, &i.payload, &i.record, &i.attempts, &i.created); err != nil {
			return nil, err
		}
		due = append(due, i)
	}
	return due, rows.Err()
}

func (m *Mirror) deliver(ctx context.Context, holds *holdclient.Client, did string, i dueItem) error {
	ctx, cancel := context.WithTimeout(ctx, outboxCall)
	defer cancel()
	var n holdclient.Notification
	if err := json.Unmarshal([]byte(i.payload), &n); err != nil {
		return err
	}
	if i.record != "" {
		gone, rev, err := m.gone(ctx, syntax.DID(i.did), i.record, records.ManifestRKey(digest.Digest(n.ManifestDigest)))
		if err != nil || !gone {
			return err // still there: the deletion came to nothing, and there is nothing to tell
		}
		n.Rev = rev
	}
	hold, err := holds.Resolve(ctx, syntax.DID(did))
	if err != nil {
		return err
	}
	return holds.Notify(ctx, hold, syntax.DID(i.did), n)
}

// gone says whether a manifest has no record any more, neither under the key that was to be deleted nor under the one
// that a push since would have used; and by which commit: what was pushed after it is newer. Whatever came between that
// commit and the look at the records, and is gone too, has a notification of its own.
func (m *Mirror) gone(ctx context.Context, did syntax.DID, rkeys ...string) (yes bool, rev string, err error) {
	if _, rev, err = m.PDS.LatestCommit(ctx, did); err != nil {
		return false, "", err
	}
	for _, rkey := range slices.Compact(rkeys) {
		if _, err := m.PDS.GetRecord(ctx, did, CollectionManifest, rkey); !errors.Is(err, atproto.ErrRecordNotFound) {
			return false, "", err
		}
	}
	return true, rev, nil
}

// settle forgets what was delivered. Of what was not, it puts off all that would fail for the same reason: everything
// for the hold, or what the same user has for it.
func (m *Mirror) settle(ctx context.Context, hold string, i dueItem, failure error) error {
	if failure == nil {
		return m.forget(ctx, i)
	}
	if m.Now().Sub(time.UnixMicro(i.created)) > outboxGiveUp {
		m.Log.ErrorContext(ctx, "the hold never took a notification; giving up", "hold", hold, "did", i.did, "error", failure)
		return m.forget(ctx, i)
	}
	wait := min(outboxFirst<<min(i.attempts, 20), outboxLast)
	m.Log.InfoContext(ctx, "notifications put off", "hold", hold, "did", i.did, "again_in", wait, "error", failure)
	again := m.Now().Add(wait).UnixMicro()
	err := m.Store.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE outbox SET attempts = attempts + 1 WHERE id = $1`, i.id); err != nil {
			return err
		}
		query, args := `UPDATE outbox SET due_at = $1 WHERE hold = $2 AND due_at < $1 AND did = $3`, []any{again, hold, i.did}
		if ofHold(failure) {
			query, args = `UPDATE outbox SET due_at = $1 WHERE hold = $2 AND due_at < $1`, args[:2]
		}
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("put off notification: %w", err)
	}
	return nil
}

func (m *Mirror) forget(ctx context.Context, i dueItem) error {
	err := m.Store.Write(ctx, func(tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id = $1`, i.id)
		return err
	})
	if err != nil {
		return fmt.Errorf("clear outbox: %w", err)
	}
	return nil
}
