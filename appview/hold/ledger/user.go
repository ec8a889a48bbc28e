package ledger

import (
	"context"
	"database/sql"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// ForgetUser forgets everything about a DID but its uploads in progress, which end by themselves. Delete its records
// before: nothing finds them afterwards.
func (l *Ledger) ForgetUser(ctx context.Context, did syntax.DID) error {
	return l.inTx(ctx, "forget user", func(tx *sql.Tx) error {
		for _, query := range []string{
			`DELETE FROM links WHERE did = ?`, `DELETE FROM layers WHERE did = ?`, `DELETE FROM pushes WHERE did = ?`,
			`DELETE FROM manifest_blobs WHERE did = ?`, `DELETE FROM manifests WHERE did = ?`, `DELETE FROM counted WHERE did = ?`,
			`DELETE FROM uploads WHERE did = ? AND digest <> ''`, `DELETE FROM restored WHERE did = ?`,
			`DELETE FROM read_manifests WHERE did = ?`,
		} {
			if _, err := tx.ExecContext(ctx, query, string(did)); err != nil {
				return err
			}
		}
		return nil
	})
}
