package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// LastPush is the digest last pushed to a tag, empty when there was none.
func (l *Ledger) LastPush(ctx context.Context, did syntax.DID, repository, tag string) (d digest.Digest, err error) {
	row := l.read.QueryRowContext(ctx, `SELECT coalesce((SELECT digest FROM pushes WHERE did = ? AND repository = ? AND tag = ?), '')`,
		string(did), repository, tag)
	if err := row.Scan(&d); err != nil {
		return "", fmt.Errorf("look up last push: %w", err)
	}
	return d, nil
}

// SetLastPush remembers a push. Of a DID with more than most tags it forgets another one.
func (l *Ledger) SetLastPush(ctx context.Context, did syntax.DID, repository, tag string, d digest.Digest, most int) error {
	return l.inTx(ctx, "remember push", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx,
			`INSERT INTO pushes (did, repository, tag, digest) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest`,
			string(did), repository, tag, string(d)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM pushes WHERE did = ?1 AND (SELECT count(*) FROM pushes WHERE did = ?1) > ?4 AND (repository, tag) =
			(SELECT repository, tag FROM pushes WHERE did = ?1 AND (repository, tag) <> (?2, ?3) LIMIT 1)`, string(did), repository, tag, most)
		return err
	})
}

// CountRepository notes that a repository has statistics, unless its DID has most with them: it is false then.
func (l *Ledger) CountRepository(ctx context.Context, did syntax.DID, repository string, most int) (yes bool, err error) {
	if _, err := l.write.ExecContext(ctx, `INSERT INTO counted (did, repository)
		SELECT ?1, ?2 WHERE (SELECT count(*) FROM counted WHERE did = ?1) < ?3 ON CONFLICT DO NOTHING`, string(did), repository, most); err != nil {
		return false, fmt.Errorf("note repository: %w", err)
	}
	row := l.write.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM counted WHERE did = ? AND repository = ?)`, string(did), repository)
	if err := row.Scan(&yes); err != nil {
		return false, fmt.Errorf("note repository: %w", err)
	}
	return yes, nil
}
