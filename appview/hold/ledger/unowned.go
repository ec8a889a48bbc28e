package ledger

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Completing notes that a blob which is not in the storage is about to be, so that it can be removed when it never gets a
// user. It does not wait for the disk: after a power cut such a blob may stay.
func (l *Ledger) Completing(ctx context.Context, d digest.Digest) error {
	_, err := l.soon(ctx, `INSERT OR IGNORE INTO unowned (digest) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM links WHERE digest = ?1)`, string(d))
	if err != nil {
		return fmt.Errorf("note completion: %w", err)
	}
	return nil
}

// Unowned says whether a blob is known to be nobody's any more. It asks the writing connection: its answer decides about
// deletion.
func (l *Ledger) Unowned(ctx context.Context, d digest.Digest) (yes bool, err error) {
	if err := one(ctx, l.write, `SELECT EXISTS (SELECT 1 FROM unowned WHERE digest = ?)`, string(d))(&yes); err != nil {
		return false, fmt.Errorf("look up blob: %w", err)
	}
	return yes, nil
}

// UnownedBlobs are at most 1000 of those blobs, another choice each time.
func (l *Ledger) UnownedBlobs(ctx context.Context) ([]digest.Digest, error) {
	return collect(ctx, l.read, "list blobs that nobody has", func(rows *sql.Rows, d *digest.Digest) error { return rows.Scan(d) },
		`SELECT digest FROM unowned ORDER BY random() LIMIT 1000`)
}

// Removed notes that such a blob is not in the storage any more.
func (l *Ledger) Removed(ctx context.Context, d digest.Digest) error {
	if _, err := l.write.ExecContext(ctx, `DELETE FROM unowned WHERE digest = ?`, string(d)); err != nil {
		return fmt.Errorf("note removal: %w", err)
	}
	return nil
}
