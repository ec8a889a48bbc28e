package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrNotFound: there is no such row.
var ErrNotFound = errors.New("not found")

// PDSSession is a row of pds_sessions.
type PDSSession struct {
	Credential string // hex HMAC of DID and app password
	DID        string
	PDS        string
	Sealed     []byte
	ExpiresAt  time.Time // of the access token
	EndsAt     time.Time // of the refresh token
	Version    int64
	UpdatedAt  time.Time
}

const sessionColumns = `credential, did, pds, sealed, expires_at, ends_at, version, updated_at`

// SessionByCredential is the session of one app password, or [ErrNotFound].
func (d *DB) SessionByCredential(ctx context.Context, credential string) (*PDSSession, error) {
	return d.oneSession(ctx, `SELECT `+sessionColumns+` FROM pds_sessions WHERE credential = $1`, credential)
}

// LatestSession is the session of did that was made or refreshed last, or [ErrNotFound].
func (d *DB) LatestSession(ctx context.Context, did string) (*PDSSession, error) {
	return d.oneSession(ctx, `SELECT `+sessionColumns+` FROM pds_sessions WHERE did = $1 ORDER BY updated_at DESC, credential LIMIT 1`, did)
}

func (d *DB) oneSession(ctx context.Context, query string, args ...any) (*PDSSession, error) {
	var s PDSSession
	var expires, ends, updated int64
	err := d.ReadOne(ctx, func(q Querier) error {
		return q.QueryRowContext(ctx, query, args...).Scan(&s.Credential, &s.DID, &s.PDS, &s.Sealed, &expires, &ends, &s.Version, &updated)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("PDS session: %w", ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a PDS session: %w", err)
	}
	s.ExpiresAt, s.EndsAt, s.UpdatedAt = time.Unix(expires, 0), time.Unix(ends, 0), time.Unix(updated, 0)
	return &s, nil
}

// SaveSession writes a new session, or replaces whatever the credential had.
func (d *DB) SaveSession(ctx context.Context, s PDSSession) error {
	err := d.Write(ctx, func(tx Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO pds_sessions (`+sessionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (credential) DO UPDATE SET did = excluded.did, pds = excluded.pds, sealed = excluded.sealed,
			expires_at = excluded.expires_at, ends_at = excluded.ends_at, version = excluded.version, updated_at = excluded.updated_at`,
			s.Credential, s.DID, s.PDS, s.Sealed, s.ExpiresAt.Unix(), s.EndsAt.Unix(), s.Version, s.UpdatedAt.Unix())
		return err
	})
	if err != nil {
		return fmt.Errorf("saving a PDS session: %w", err)
	}
	return nil
}

// DeleteSession removes a session if it is still at version; a later one stays.
func (d *DB) DeleteSession(ctx context.Context, credential string, version int64) error {
	err := d.Write(ctx, func(tx Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM pds_sessions WHERE credential = $1 AND version = $2`, credential, version)
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting a PDS session: %w", err)
	}
	return nil
}

// SweepSessions removes sessions that can no longer be refreshed and leases that ran out.
func (d *DB) SweepSessions(ctx context.Context, now time.Time) (int64, error) {
	var n int64
	err := d.Write(ctx, func(tx Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE expires_at < $1`, now.UnixMilli()); err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, `DELETE FROM pds_sessions WHERE ends_at < $1`, now.Unix())
		if err != nil {
			return err
		}
		n, err = r.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sweeping PDS sessions: %w", err)
	}
	return n, nil
}
