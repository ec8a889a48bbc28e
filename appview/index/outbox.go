package index

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/store"
)

// outboxItem is a notification that is stored in the transaction of the push that it tells of.
type outboxItem struct {
	did, hold    syntax.DID
	notification holdclient.Notification
}

func (o *outboxItem) insert(ctx context.Context, q store.Tx, now time.Time) error {
	payload, err := json.Marshal(o.notification)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	_, err = q.ExecContext(ctx, `INSERT INTO outbox (id, did, hold, payload, attempts, due_at) VALUES ($1, $2, $3, $4, 0, $5)`,
		rand.Text(), string(o.did), string(o.hold), string(payload), now.UnixMicro())
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

const (
	outboxPoll   = time.Second
	outboxBatch  = 50
	outboxLease  = time.Minute // a replica that takes an item and dies gives it back after this
	outboxFirst  = 2 * time.Second
	outboxLast   = time.Hour
	outboxGiveUp = 200 // attempts, about a week
)

// Deliver sends the outbox until ctx ends. Several replicas may run it.
func (m *Mirror) Deliver(ctx context.Context, holds *holdclient.Client) {
	tick := time.NewTicker(outboxPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.deliverDue(ctx, holds); err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "outbox", "error", err)
		}
	}
}

type dueItem struct {
	id, did, hold, payload string
	attempts, due          int64
}

func (m *Mirror) deliverDue(ctx context.Context, holds *holdclient.Client) error {
	due, err := read(ctx, m.Store, func(q querier) ([]dueItem, error) {
		return scanDue(q.QueryContext(ctx, `SELECT id, did, hold, payload, attempts, due_at FROM outbox WHERE due_at <= $1
			ORDER BY due_at LIMIT $2`, m.Now().UnixMicro(), outboxBatch))
	})
	if err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	for _, i := range due {
		taken, err := m.changed(ctx, `UPDATE outbox SET due_at = $1 WHERE id = $2 AND due_at = $3`,
			m.Now().Add(outboxLease).UnixMicro(), i.id, i.due)
		if err != nil {
			return fmt.Errorf("take from outbox: %w", err)
		}
		if !taken {
			continue // another replica has it
		}
		if err := m.settle(ctx, i, m.deliver(ctx, holds, i)); err != nil {
			return err
		}
	}
	return nil
}

func scanDue(rows *sql.Rows, err error) (due []dueItem, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var i dueItem
		if err := rows.Scan(&i.id, &i.did, &i.hold, &i.payload, &i.attempts, &i.due); err != nil {
			return nil, err
		}
		due = append(due, i)
	}
	return due, rows.Err()
}

// changed runs a statement and says whether it met a row.
func (m *Mirror) changed(ctx context.Context, statement string, args ...any) (did bool, err error) {
	err = m.Store.Write(ctx, func(tx store.Tx) error {
		res, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		did = n > 0
		return err
	})
	return did, err
}

func (m *Mirror) deliver(ctx context.Context, holds *holdclient.Client, i dueItem) error {
	var n holdclient.Notification
	if err := json.Unmarshal([]byte(i.payload), &n); err != nil {
		return err
	}
	hold, err := holds.Resolve(ctx, syntax.DID(i.hold))
	if err != nil {
		return err
	}
	return holds.Notify(ctx, hold, syntax.DID(i.did), n)
}

// settle forgets what was delivered, and puts off what was not.
func (m *Mirror) settle(ctx context.Context, i dueItem, failure error) error {
	ctx = context.WithoutCancel(ctx)
	if failure == nil || i.attempts+1 >= outboxGiveUp {
		if failure != nil {
			m.Log.ErrorContext(ctx, "the hold never took a notification; giving up", "hold", i.hold, "did", i.did, "error", failure)
		}
		if _, err := m.changed(ctx, `DELETE FROM outbox WHERE id = $1`, i.id); err != nil {
			return fmt.Errorf("clear outbox: %w", err)
		}
		return nil
	}
	wait := min(outboxFirst<<min(i.attempts, 20), outboxLast)
	m.Log.InfoContext(ctx, "notification put off", "hold", i.hold, "did", i.did, "again_in", wait, "error", failure)
	if _, err := m.changed(ctx, `UPDATE outbox SET attempts = attempts + 1, due_at = $1 WHERE id = $2`,
		m.Now().Add(wait).UnixMicro(), i.id); err != nil {
		return fmt.Errorf("put off notification: %w", err)
	}
	return nil
}
