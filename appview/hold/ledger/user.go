package ledger

import (
	"context"
	"database/sql"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// User is what the ledger knows of a DID.
type User struct {
	Blobs  []Blob             // that it may read
	Layers []syntax.RecordKey // of its layer records
}

// OfUser is what the ledger knows of a DID; empty when it knows nothing.
func (l *Ledger) OfUser(ctx context.Context, did syntax.DID) (u User, err error) {
	u.Blobs, err = collect(ctx, l.read, "list blobs of user", func(rows *sql.Rows, b *Blob) error { return rows.Scan(&b.Digest, &b.Size) },
		`SELECT digest, size FROM links WHERE did = ? ORDER BY digest`, string(did))
	if err != nil {
		return u, err
	}
	u.Layers, err = collect(ctx, l.read, "list layers of user", func(rows *sql.Rows, k *syntax.RecordKey) error { return rows.Scan(k) },
		`SELECT rkey FROM layers WHERE did = ? ORDER BY rkey`, string(did))
	return u, err
}

// ForgetUser forgets everything about a DID but its uploads in progress, which end by themselves. Delete its records
// before: nothing finds them afterwards.
func (l *Ledger) ForgetUser(ctx context.Context, did syntax.DID) error {
	return l.inTx(ctx, "forget user", func(tx *sql.Tx) error {
		for _, query := range []string{
			`DELETE FROM links WHERE did = ?`, `DELETE FROM layers WHERE did = ?`, `DELETE FROM pushes WHERE did = ?`,
			`DELETE FROM manifest_blobs WHERE did = ?`, `DELETE FROM manifests WHERE did = ?`, `DELETE FROM counted WHERE did = ?`,
			`DELETE FROM uploads WHERE did = ? AND digest <> ''`,
		} {
			if _, err := tx.ExecContext(ctx, query, string(did)); err != nil {
				return err
			}
		}
		return nil
	})
}
