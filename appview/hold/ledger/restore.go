package ledger

import (
	"context"
	"database/sql"
	"time"
)

// RestoreLayer knows a layer record again that the hold's repository has, as after an import. The blob is the DID's,
// unless the ledger knows it already; whether its bytes are in the storage is for the reader to see.
func (l *Ledger) RestoreLayer(ctx context.Context, in Layer, now time.Time) error {
	return l.inTx(ctx, "restore layer", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO layers (manifest, digest, did, size, rkey, created_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			string(in.Manifest), string(in.Digest), string(in.DID), in.Size, string(in.RKey), millis(in.CreatedAt)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO links (did, digest, size, used_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			string(in.DID), string(in.Digest), in.Size, millis(now))
		return err
	})
}
