package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// Layer is one io.atcr.hold.layer record: a layer of one manifest.
type Layer struct {
	Manifest  syntax.ATURI
	Digest    digest.Digest
	DID       syntax.DID
	Size      int64
	RKey      syntax.RecordKey
	CreatedAt time.Time
}

// KeepLayer remembers a layer of a manifest and returns it as it is remembered: the record key and time of the first
// call hold for all later ones. Fresh is false then.
func (l *Ledger) KeepLayer(ctx context.Context, in Layer) (kept Layer, fresh bool, err error) {
	res, err := l.write.ExecContext(ctx,
		`INSERT INTO layers (manifest, digest, did, size, rkey, created_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		string(in.Manifest), string(in.Digest), string(in.DID), in.Size, string(in.RKey), millis(in.CreatedAt))
	if err != nil {
		return Layer{}, false, fmt.Errorf("keep layer: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return Layer{}, false, fmt.Errorf("keep layer: %w", err)
	}
	kept = in
	var at int64
	row := l.write.QueryRowContext(ctx, `SELECT size, rkey, created_at FROM layers WHERE manifest = ? AND digest = ?`, string(in.Manifest), string(in.Digest))
	if err := row.Scan(&kept.Size, &kept.RKey, &at); err != nil {
		return Layer{}, false, fmt.Errorf("keep layer: %w", err)
	}
	kept.CreatedAt = time.UnixMilli(at).UTC()
	return kept, n == 1, nil
}

// LayersOf are the layer records of a manifest.
func (l *Ledger) LayersOf(ctx context.Context, manifest syntax.ATURI) ([]Layer, error) {
	return collect(ctx, l.read, "list layers of manifest", func(rows *sql.Rows, y *Layer) error {
		y.Manifest = manifest
		var at int64
		err := rows.Scan(&y.Digest, &y.DID, &y.Size, &y.RKey, &at)
		y.CreatedAt = time.UnixMilli(at).UTC()
		return err
	}, `SELECT digest, did, size, rkey, created_at FROM layers WHERE manifest = ? ORDER BY digest`, string(manifest))
}

// ForgetLayers forgets the layer records of a manifest, once they are deleted.
func (l *Ledger) ForgetLayers(ctx context.Context, manifest syntax.ATURI) error {
	if _, err := l.write.ExecContext(ctx, `DELETE FROM layers WHERE manifest = ?`, string(manifest)); err != nil {
		return fmt.Errorf("forget layers: %w", err)
	}
	return nil
}
