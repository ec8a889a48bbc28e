package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// RefreshToken is a row of refresh_tokens.
type RefreshToken struct {
	Hash       string // hex SHA-256 of the token
	Credential string // of [PDSSession]
	DID        string
	Client     string // client_id, may be empty
	CreatedAt  time.Time
	UsedAt     time.Time
}

// SaveRefreshToken writes a new token. Of one credential at most keep remain: those that were used last.
func (d *DB) SaveRefreshToken(ctx context.Context, t RefreshToken, keep int) error {
	err := d.Write(ctx, func(tx Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO refresh_tokens (hash, credential, did, client, created_at, used_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			t.Hash, t.Credential, t.DID, t.Client, t.CreatedAt.Unix(), t.UsedAt.Unix())
		if err != nil {
			return err
		}
		var last string
		err = tx.QueryRowContext(ctx, `SELECT hash FROM refresh_tokens WHERE credential = $1 AND hash <> $2
			ORDER BY used_at DESC, hash LIMIT 1 OFFSET $3`, t.Credential, t.Hash, keep-1).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		// One comes and one goes: there are never more than keep.
		_, err = tx.ExecContext(ctx, `DELETE FROM refresh_tokens WHERE hash = $1`, last)
		return err
	})
	if err != nil {
		return fmt.Errorf("saving a refresh token: %w", err)
	}
	return nil
}

// RefreshToken is the token with a hash, or [ErrNotFound].
func (d *DB) RefreshToken(ctx context.Context, hash string) (*RefreshToken, error) {
	t := RefreshToken{Hash: hash}
	var created, used int64
	err := d.Read(ctx, func(q Querier) error {
		return q.QueryRowContext(ctx, `SELECT credential, did, client, created_at, used_at FROM refresh_tokens WHERE hash = $1`, hash).
			Scan(&t.Credential, &t.DID, &t.Client, &created, &used)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("refresh token: %w", ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a refresh token: %w", err)
	}
	t.CreatedAt, t.UsedAt = time.Unix(created, 0), time.Unix(used, 0)
	return &t, nil
}

// TouchRefreshToken notes that a token was used.
func (d *DB) TouchRefreshToken(ctx context.Context, hash string, at time.Time) error {
	return d.changeRefreshTokens(ctx, `UPDATE refresh_tokens SET used_at = $1 WHERE hash = $2`, at.Unix(), hash)
}

// DeleteRefreshTokens ends every token of a credential.
func (d *DB) DeleteRefreshTokens(ctx context.Context, credential string) error {
	return d.changeRefreshTokens(ctx, `DELETE FROM refresh_tokens WHERE credential = $1`, credential)
}

// SweepRefreshTokens removes tokens that were used last before idle, or made before born.
func (d *DB) SweepRefreshTokens(ctx context.Context, idle, born time.Time) error {
	return d.changeRefreshTokens(ctx, `DELETE FROM refresh_tokens WHERE used_at < $1 OR created_at < $2`, idle.Unix(), born.Unix())
}

func (d *DB) changeRefreshTokens(ctx context.Context, query string, args ...any) error {
	err := d.Write(ctx, func(tx Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("changing refresh tokens: %w", err)
	}
	return nil
}
