package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// ReadManifest is what [Ledger.KeepManifest] kept of a manifest, or [ErrNotFound].
func (l *Ledger) ReadManifest(ctx context.Context, did syntax.DID, d digest.Digest) (blobs []byte, err error) {
	if err := l.read.QueryRowContext(ctx, `SELECT blobs FROM read_manifests WHERE did = ? AND digest = ?`, string(did), string(d)).Scan(&blobs); err != nil {
		return nil, fmt.Errorf("look up manifest: %w", notFound(err))
	}
	return blobs, nil
}

// KeepManifest keeps what a manifest of a DID names, as its bytes say.
func (l *Ledger) KeepManifest(ctx context.Context, did syntax.DID, d digest.Digest, blobs []byte) error {
	if _, err := l.write.ExecContext(ctx, `INSERT INTO read_manifests (did, digest, blobs) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
		string(did), string(d), string(blobs)); err != nil {
		return fmt.Errorf("keep manifest: %w", err)
	}
	return nil
}

// ReadManifests are the manifests of a DID that [Ledger.KeepManifest] kept, and the bytes of what it kept of them.
func (l *Ledger) ReadManifests(ctx context.Context, did syntax.DID) (manifests []digest.Digest, bytes int, err error) {
	type kept struct {
		digest digest.Digest
		bytes  int
	}
	all, err := collect(ctx, l.read, "list kept manifests", func(rows *sql.Rows, k *kept) error { return rows.Scan(&k.digest, &k.bytes) },
		`SELECT digest, length(blobs) FROM read_manifests WHERE did = ?`, string(did))
	for _, k := range all {
		manifests = append(manifests, k.digest)
		bytes += k.bytes
	}
	return manifests, bytes, err
}

// ForgetRead forgets what was kept of manifests of a DID.
func (l *Ledger) ForgetRead(ctx context.Context, did syntax.DID, manifests []digest.Digest) error {
	if len(manifests) == 0 {
		return nil
	}
	list, err := json.Marshal(manifests)
	if err != nil {
		return err
	}
	if _, err := l.write.ExecContext(ctx, `DELETE FROM read_manifests WHERE did = ? AND digest IN (SELECT value FROM json_each(?))`, string(did), string(list)); err != nil {
		return fmt.Errorf("forget kept manifests: %w", err)
	}
	return nil
}

// ForgetReadOfOthers forgets what was kept of the manifests of DIDs that have nothing here any more.
func (l *Ledger) ForgetReadOfOthers(ctx context.Context) error {
	_, err := l.write.ExecContext(ctx, `DELETE FROM read_manifests WHERE did IN (SELECT r.did FROM (SELECT DISTINCT did FROM read_manifests) r
		WHERE NOT EXISTS (SELECT 1 FROM links WHERE did = r.did) AND NOT EXISTS (SELECT 1 FROM layers WHERE did = r.did)
		AND NOT EXISTS (SELECT 1 FROM manifests WHERE did = r.did))`)
	if err != nil {
		return fmt.Errorf("forget kept manifests: %w", err)
	}
	return nil
}
