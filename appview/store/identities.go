package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Identity is a row of identities.
type Identity struct {
	DID      string
	Handle   string // verified; empty: none
	Document string // JSON
	FoundAt  time.Time
}

// SaveIdentity writes what was found. A handle has one DID: whoever had it before has it no more.
func (d *DB) SaveIdentity(ctx context.Context, i Identity) error {
	err := d.Write(ctx, func(tx Tx) error {
		if i.Handle != "" {
			if _, err := tx.ExecContext(ctx, `UPDATE identities SET handle = '' WHERE handle = $1 AND handle <> '' AND did <> $2`, i.Handle, i.DID); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO identities (did, handle, document, found_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (did) DO UPDATE SET handle = excluded.handle, document = excluded.document, found_at = excluded.found_at`,
			i.DID, i.Handle, i.Document, i.FoundAt.Unix())
		return err
	})
	if err != nil {
		return fmt.Errorf("saving an identity: %w", err)
	}
	return nil
}

// Identity is what was found last of a DID or handle, or [ErrNotFound].
func (d *DB) Identity(ctx context.Context, id string) (*Identity, error) {
	var i Identity
	var found int64
	err := d.ReadOne(ctx, func(q Querier) error {
		// A handle is never a DID, and never empty.
		return q.QueryRowContext(ctx, `SELECT did, handle, document, found_at FROM identities WHERE did = $1
			UNION ALL SELECT did, handle, document, found_at FROM identities WHERE handle = $1 AND handle <> ''
			ORDER BY found_at DESC LIMIT 1`, id).Scan(&i.DID, &i.Handle, &i.Document, &found)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("identity: %w", ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading an identity: %w", err)
	}
	i.FoundAt = time.Unix(found, 0)
	return &i, nil
}

// ForgetIdentity removes a DID that is no more, and takes a handle that names nobody from whoever had it.
func (d *DB) ForgetIdentity(ctx context.Context, id string) error {
	if _, err := d.Identity(ctx, id); errors.Is(err, ErrNotFound) {
		return nil // mostly: strangers ask for names that never were, and reading is cheap
	}
	err := d.Write(ctx, func(tx Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM identities WHERE did = $1`, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE identities SET handle = '' WHERE handle = $1 AND handle <> ''`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("forgetting an identity: %w", err)
	}
	return nil
}

// SweepIdentities removes what was found before a time.
func (d *DB) SweepIdentities(ctx context.Context, before time.Time) error {
	err := d.Write(ctx, func(tx Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM identities WHERE found_at < $1`, before.Unix())
		return err
	})
	if err != nil {
		return fmt.Errorf("sweeping identities: %w", err)
	}
	return nil
}
