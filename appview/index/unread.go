package index

import (
	"context"
	"math"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/store"
)

// unread is how long the mirror of a DID is kept that nobody asks for.
const unread = 30 * 24 * time.Hour

// day is the beginning of a day, in Unix seconds.
func day(t time.Time) int64 {
	const length = 24 * 60 * 60
	return t.Unix() / length * length
}

// noteRead writes down that a DID was asked for, unless the store knows that it was today. Nobody's pull fails for it.
func (m *Mirror) noteRead(ctx context.Context, did syntax.DID, h head) {
	today := day(m.Now())
	if h.readAt.Unix() >= today {
		return
	}
	if err := m.writeReads(ctx, []syntax.DID{did}, today); err != nil {
		m.Log.WarnContext(ctx, "that a mirror was read was not noted", "did", did, "error", err)
	}
}

// noteReads writes down which DIDs were asked for since yesterday: what is answered from memory, or by a digest that is
// known, comes to the store in no other way. It writes once for a DID and day, whatever the number of requests.
func (m *Mirror) noteReads(ctx context.Context) error {
	today := day(m.Now())
	var list []syntax.DID
	flush := func() error {
		err := m.writeReads(ctx, list, today)
		list = list[:0]
		return err
	}
	for _, did := range m.queues.Keys() {
		q, ok := m.queues.Peek(did)
		if !ok {
			continue
		}
		read := q.read.Load()
		if q.noted.Swap(read) == read {
			continue
		}
		if list = append(list, did); len(list) == sweepBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (m *Mirror) writeReads(ctx context.Context, list []syntax.DID, today int64) error {
	if len(list) == 0 {
		return nil
	}
	return m.Store.Write(ctx, func(tx store.Tx) error {
		for _, did := range list {
			if _, err := tx.ExecContext(ctx, `UPDATE mirrors SET read_at = $1 WHERE did = $2 AND read_at < $1`, today, string(did)); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropUnread forgets DIDs that nobody asked for since long, some at each call. Their records are read again when somebody
// does.
func (m *Mirror) dropUnread(ctx context.Context) error {
	before := m.Now().Add(-unread).Unix()
	// 0: written by a replica of an earlier release, and not asked for since
	list, err := m.texts(ctx, `SELECT did FROM mirrors WHERE read_at > 0 AND read_at < $1 ORDER BY read_at LIMIT $2`, before, sweepBatch)
	if err != nil {
		return err
	}
	for _, did := range list {
		if err := m.drop(ctx, syntax.DID(did), before); err != nil {
			return err
		}
	}
	if len(list) > 0 {
		m.Log.InfoContext(ctx, "mirrors dropped that nobody asked for", "count", len(list))
	}
	return nil
}

// dropBeyondRows forgets DIDs while all mirrors have more than allRows together: those that nobody asked for since
// longest, of one day those with the most rows. Like the others they are read again when somebody asks.
func (m *Mirror) dropBeyondRows(ctx context.Context) error {
	sum := func(q querier) (n int64, err error) {
		return n, q.QueryRowContext(ctx, `SELECT CAST(coalesce(sum(row_count), 0) AS BIGINT) FROM mirrors`).Scan(&n)
	}
	rows, err := readOne(ctx, m.Store, sum)
	if err != nil || rows <= m.allRows {
		return err
	}
	list, err := m.texts(ctx, `SELECT did FROM mirrors WHERE row_count > 0 ORDER BY read_at, row_count DESC, did LIMIT $1`, sweepBatch)
	if err != nil {
		return err
	}
	dropped := 0
	for ; dropped < len(list) && rows > m.allRows; dropped++ {
		if err := m.drop(ctx, syntax.DID(list[dropped]), math.MaxInt64); err != nil {
			return err
		}
		if rows, err = readOne(ctx, m.Store, sum); err != nil {
			return err
		}
	}
	m.Log.WarnContext(ctx, "mirrors dropped: all of them together had too many rows; they are read again from their PDS when needed", "count", dropped)
	return nil
}

// drop deletes the rows of a DID that was not asked for since before, in parts. From the first on, nothing is known of it; whoever reads it meanwhile stops this.
func (m *Mirror) drop(ctx context.Context, did syntax.DID, before int64) error {
	if q, ok := m.queues.Peek(did); ok {
		if !q.mu.TryLock() {
			return nil
		}
		defer q.mu.Unlock()
		defer q.forget()
	}
	var at head
	for first, more := true, true; more; first = false {
		planned := at.generation
		err := m.Store.WriteAlone(ctx, mirrorLock(did), func(tx store.Tx) error {
			more = false
			current, err := readHead(ctx, tx, did)
			if err != nil || current.readAt.Unix() >= before || !first && current.generation != planned {
				return err
			}
			n, err := dropRows(ctx, tx, did)
			if err != nil {
				return err
			}
			if n == 0 {
				_, err = tx.ExecContext(ctx, `DELETE FROM mirrors WHERE did = $1`, string(did))
				return err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE mirrors SET rev = '', commit_cid = '', generation = generation + 1 WHERE did = $1`, string(did)); err != nil {
				return err
			}
			more = true
			at, err = readHead(ctx, tx, did)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forget makes the next request ask the PDS.
func (q *queue) forget() {
	q.generation.Add(1)
	q.state.Lock()
	q.syncedAt = time.Time{}
	q.state.Unlock()
}

// dropRows deletes some rows of a DID, tags before what they name, and says how many.
func dropRows(ctx context.Context, tx store.Tx, did syntax.DID) (n int64, err error) {
	for _, query := range []string{
		`DELETE FROM tags WHERE did = $1 AND rkey IN (SELECT rkey FROM tags WHERE did = $1 LIMIT $2)`,
		`DELETE FROM manifests WHERE did = $1 AND digest IN (SELECT digest FROM manifests WHERE did = $1 LIMIT $2)`,
		`DELETE FROM manifest_repositories WHERE did = $1 AND (repository, digest) IN
			(SELECT repository, digest FROM manifest_repositories WHERE did = $1 LIMIT $2)`,
		`DELETE FROM manifest_refs WHERE did = $1 AND (child, parent) IN
			(SELECT child, parent FROM manifest_refs WHERE did = $1 LIMIT $2)`,
	} {
		if n >= partRows {
			break
		}
		res, err := tx.ExecContext(ctx, query, string(did), partRows-n)
		if err != nil {
			return n, err
		}
		gone, err := res.RowsAffected()
		if err != nil {
			return n, err
		}
		n += gone
	}
	return n, nil
}
