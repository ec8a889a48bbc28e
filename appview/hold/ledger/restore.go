package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// RestoreLayers knows layer records again that the hold's repository has, as after an import: all of them or, when there is an
// error, none. Their blobs are their DIDs', unless the ledger knows them already; whether the bytes are in the storage is for
// the reader to see. The DIDs are [Ledger.Restored] from then on.
func (l *Ledger) RestoreLayers(ctx context.Context, layers iter.Seq2[Layer, error], now time.Time) error {
	return l.inTx(ctx, "restore layers", func(tx *sql.Tx) error {
		for in, err := range layers {
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO layers (manifest, digest, did, size, rkey, created_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				string(in.Manifest), string(in.Digest), string(in.DID), in.Size, string(in.RKey), millis(in.CreatedAt)); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO restored (did, at) VALUES (?, ?) ON CONFLICT DO NOTHING`, string(in.DID), millis(now)); err != nil {
				return err
			}
			if err := relink(ctx, tx, in.DID, in.Digest, in.Size, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// Relink gives a blob back to a DID whose manifest names it, unless the DID has it already.
func (l *Ledger) Relink(ctx context.Context, did syntax.DID, d digest.Digest, size int64, now time.Time) error {
	return l.inTx(ctx, "restore blob", func(tx *sql.Tx) error { return relink(ctx, tx, did, d, size, now) })
}

func relink(ctx context.Context, tx *sql.Tx, did syntax.DID, d digest.Digest, size int64, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO links (did, digest, size, used_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		string(did), string(d), size, millis(now))
	return err
}

// Restored are the DIDs of restored layers whose manifests are still to be read. Those of a restore while the clock was ahead
// count as restored now: nobody waits for them longer than for others.
func (l *Ledger) Restored(ctx context.Context, now time.Time) ([]syntax.DID, error) {
	if _, err := l.write.ExecContext(ctx, `UPDATE restored SET at = ?1 WHERE at > ?1`, millis(now)); err != nil {
		return nil, fmt.Errorf("note restored users: %w", err)
	}
	return collect(ctx, l.read, "list restored users", func(rows *sql.Rows, d *syntax.DID) error { return rows.Scan(d) },
		`SELECT did FROM restored ORDER BY random()`)
}

// ServedLayers are the manifests of restored layers of a DID that begin with the prefix, which stands for no manifest, when the
// DID has the same layer by another manifest too.
func (l *Ledger) ServedLayers(ctx context.Context, did syntax.DID, prefix string) ([]syntax.ATURI, error) {
	return collect(ctx, l.read, "list early layers", func(rows *sql.Rows, u *syntax.ATURI) error { return rows.Scan(u) },
		`SELECT manifest FROM layers y WHERE did = ?1 AND instr(manifest, ?2) = 1
			AND EXISTS (SELECT 1 FROM layers n WHERE n.did = ?1 AND n.digest = y.digest AND instr(n.manifest, ?2) <> 1)`, string(did), prefix)
}

// Reread notes that the manifests of a restored DID were read.
func (l *Ledger) Reread(ctx context.Context, did syntax.DID) error {
	if _, err := l.write.ExecContext(ctx, `DELETE FROM restored WHERE did = ?`, string(did)); err != nil {
		return fmt.Errorf("note restored user: %w", err)
	}
	return nil
}

// Incomplete says whether there is a DID, restored since the time, whose manifests are still to be read: it may have blobs
// that the ledger does not know of.
func (l *Ledger) Incomplete(ctx context.Context, since time.Time) (yes bool, err error) {
	if err := one(ctx, l.write, `SELECT EXISTS (SELECT 1 FROM restored WHERE at > ?)`, millis(since))(&yes); err != nil {
		return false, fmt.Errorf("look up restored users: %w", err)
	}
	return yes, nil
}

// Empty says whether the ledger knows of no blob.
func (l *Ledger) Empty(ctx context.Context) (yes bool, err error) {
	if err := one(ctx, l.read, `SELECT NOT EXISTS (SELECT 1 FROM links) AND NOT EXISTS (SELECT 1 FROM layers)`)(&yes); err != nil {
		return false, fmt.Errorf("look into the ledger: %w", err)
	}
	return yes, nil
}
