package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// leasePoll is how often a waiter looks again.
const leasePoll = 50 * time.Millisecond

// Lease waits until it alone, among all goroutines and processes of this store, holds name, for at most ttl. The
// returned function gives it back early. A lease is no transaction: its holder may make network calls.
func (d *DB) Lease(ctx context.Context, name string, ttl time.Duration) (release func(), err error) {
	holder := rand.Text()
	for {
		got, err := d.tryLease(ctx, name, holder, ttl)
		if err != nil {
			return nil, fmt.Errorf("taking lease: %w", err)
		}
		if got {
			return func() { d.releaseLease(context.WithoutCancel(ctx), name, holder) }, nil
		}
		wait := time.NewTimer(leasePoll)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, fmt.Errorf("waiting for lease: %w", ctx.Err())
		case <-wait.C:
		}
	}
}

// TryLease is Lease without waiting: ok says whether name was free.
func (d *DB) TryLease(ctx context.Context, name string, ttl time.Duration) (release func(), ok bool, err error) {
	holder := rand.Text()
	if ok, err = d.tryLease(ctx, name, holder, ttl); err != nil {
		return nil, false, fmt.Errorf("taking lease: %w", err)
	}
	return func() { d.releaseLease(context.WithoutCancel(ctx), name, holder) }, ok, nil
}

func (d *DB) tryLease(ctx context.Context, name, holder string, ttl time.Duration) (got bool, err error) {
	now := time.Now()
	err = d.Write(ctx, func(tx Tx) error {
		r, err := tx.ExecContext(ctx, `INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at WHERE leases.expires_at < $4`,
			name, holder, now.Add(ttl).UnixMilli(), now.UnixMilli())
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		got = n == 1
		return err
	})
	return got, err
}

func (d *DB) releaseLease(ctx context.Context, name, holder string) {
	err := d.Write(ctx, func(tx Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE name = $1 AND holder = $2`, name, holder)
		return err
	})
	if err != nil {
		d.log.WarnContext(ctx, "giving back a lease; it runs out by itself", "error", err)
	}
}
