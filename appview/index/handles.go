package index

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"

	"atcr.io/operator/appview/store"
)

const (
	handleHold   = 7 * 24 * time.Hour // how long tags of a handle that moved are not served
	handleFresh  = time.Minute        // after which it is read again whether another replica saw a handle move
	handleOwners = 8                  // remembered of one handle, the last ones
)

// Handles remembers whose images a handle has named here. Handles expire and are registered again, domains are sold:
// whoever gets one must not become the author of what others pull by its tags. It is safe for concurrent use, and by
// several processes over one database.
type Handles struct {
	store *store.DB
	log   *slog.Logger
	now   func() time.Time
	seen  *lru.Cache[string, seenHandle]
}

type seenHandle struct {
	did    syntax.DID
	tenure Tenure
	at     time.Time
}

// Tenure is what an account has of its handle.
type Tenure struct {
	Since     time.Time    // when the handle was first seen to be the account's; zero when nothing was served under it yet
	HeldUntil time.Time    // until when tags under the handle are not served; zero or past: they are
	Former    []syntax.DID // accounts whose images the handle named before, the last one first
}

// Held says whether tags under the handle are held back at a time.
func (t Tenure) Held(now time.Time) bool { return now.Before(t.HeldUntil) }

// NewHandles makes the memory of a store.
func NewHandles(db *store.DB, log *slog.Logger, now func() time.Time) *Handles {
	seen, _ := lru.New[string, seenHandle](20_000)
	return &Handles{store: db, log: log, now: now, seen: seen}
}

// Now is the time by the clock that tenures are measured with.
func (h *Handles) Now() time.Time { return h.now() }

// Tenure is what did, at which handle resolves now, has of it. The first one to ask after a handle has moved begins the
// time in which its tags are held.
func (h *Handles) Tenure(ctx context.Context, handle string, did syntax.DID) (Tenure, error) {
	now := h.now()
	if s, ok := h.seen.Get(handle); ok && s.did == did && now.Sub(s.at) < handleFresh && !s.tenure.Held(now) {
		return s.tenure, nil // while it is held, the owner's push to another replica must be seen at once
	}
	rows, err := readOne(ctx, h.store, func(q querier) ([]handleRow, error) { return handleRows(ctx, q, handle) })
	if err == nil && len(rows) > 0 && rows[0].did != did {
		err = h.store.WriteAlone(ctx, handleLock(handle), func(tx store.Tx) error {
			rows, err = moveHandle(ctx, tx, handle, did, now)
			return err
		})
		if err == nil {
			h.log.WarnContext(ctx, "a handle with images here has moved to another account", "handle", handle, "did", did, "tags held until", rows[0].heldUntil)
		}
	}
	if err != nil {
		return Tenure{}, fmt.Errorf("owners of a handle: %w", err)
	}
	return h.remember(handle, did, rows, now), nil
}

// Served notes that an image of did was served under its handle.
func (h *Handles) Served(ctx context.Context, handle string, did syntax.DID) error {
	t, err := h.Tenure(ctx, handle, did)
	if err != nil || !t.Since.IsZero() {
		return err
	}
	return h.write(ctx, handle, did, `ON CONFLICT (handle, did) DO NOTHING`)
}

// Pushed notes that did, the handle's owner, has pushed under it: it names that account's images from now on.
func (h *Handles) Pushed(ctx context.Context, handle string, did syntax.DID) error {
	t, err := h.Tenure(ctx, handle, did)
	if err != nil || !t.Since.IsZero() && !t.Held(h.now()) {
		return err
	}
	return h.write(ctx, handle, did, `ON CONFLICT (handle, did) DO UPDATE SET held_until = 0`)
}

func (h *Handles) write(ctx context.Context, handle string, did syntax.DID, conflict string) error {
	now := h.now()
	var rows []handleRow
	err := h.store.WriteAlone(ctx, handleLock(handle), func(tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO handles (handle, did, since, held_until) VALUES ($1, $2, $3, 0) `+conflict,
			handle, string(did), now.UnixMicro())
		if err == nil {
			rows, err = handleRows(ctx, tx, handle)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("owners of a handle: %w", err)
	}
	h.remember(handle, did, rows, now)
	return nil
}

func (h *Handles) remember(handle string, did syntax.DID, rows []handleRow, now time.Time) Tenure {
	var t Tenure
	for _, r := range rows {
		if r.did == did {
			t.Since, t.HeldUntil = r.since, r.heldUntil
		} else {
			t.Former = append(t.Former, r.did)
		}
	}
	h.seen.Add(handle, seenHandle{did, t, now})
	return t
}

type handleRow struct {
	did              syntax.DID
	since, heldUntil time.Time
}

func handleLock(handle string) string { return "handle " + handle }

// handleRows are the accounts of a handle, the present one first.
func handleRows(ctx context.Context, q querier, handle string) ([]handleRow, error) {
	rows, err := q.QueryContext(ctx, `SELECT did, since, held_until FROM handles WHERE handle = $1 ORDER BY since DESC, did`, handle)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []handleRow
	for rows.Next() {
		var r handleRow
		var since, held int64
		if err := rows.Scan(&r.did, &since, &held); err != nil {
			return nil, err
		}
		r.since = time.UnixMicro(since)
		if held != 0 {
			r.heldUntil = time.UnixMicro(held)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// moveHandle makes did the present account of a handle that was another's, with its tags held, unless it is the account
// whose tags were served last.
func moveHandle(ctx context.Context, tx store.Tx, handle string, did syntax.DID, now time.Time) ([]handleRow, error) {
	rows, err := handleRows(ctx, tx, handle)
	if err != nil || len(rows) == 0 || rows[0].did == did { // another replica was first
		return rows, err
	}
	held := now.Add(handleHold).UnixMicro()
	served := slices.IndexFunc(rows, func(r handleRow) bool { return !now.Before(r.heldUntil) })
	if served >= 0 && rows[served].did == did {
		held = 0
	}
	since := max(now.UnixMicro(), rows[0].since.UnixMicro()+1) // clocks of replicas differ
	if _, err := tx.ExecContext(ctx, `INSERT INTO handles (handle, did, since, held_until) VALUES ($1, $2, $3, $4)
		ON CONFLICT (handle, did) DO UPDATE SET since = excluded.since, held_until = excluded.held_until`,
		handle, string(did), since, held); err != nil {
		return nil, err
	}
	if rows, err = handleRows(ctx, tx, handle); err != nil || len(rows) <= handleOwners {
		return rows, err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM handles WHERE handle = $1 AND since <= $2`, handle, rows[handleOwners].since.UnixMicro())
	return rows[:handleOwners], err
}
