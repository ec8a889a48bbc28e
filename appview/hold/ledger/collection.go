package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// Users are the DIDs that have anything here.
func (l *Ledger) Users(ctx context.Context) ([]syntax.DID, error) {
	return collect(ctx, l.read, "list users", func(rows *sql.Rows, d *syntax.DID) error { return rows.Scan(d) },
		`SELECT did FROM links UNION SELECT did FROM layers UNION SELECT did FROM manifests WHERE notified_at > 0 ORDER BY did`)
}

// Link is a blob that a DID has.
type Link struct {
	Digest digest.Digest
	Size   int64
	UsedAt time.Time // when it was last pushed, or reserved or pushed with a manifest
}

// LinksOf are the blobs of a DID.
func (l *Ledger) LinksOf(ctx context.Context, did syntax.DID) ([]Link, error) {
	return collect(ctx, l.read, "list blobs", func(rows *sql.Rows, k *Link) error {
		var at int64
		err := rows.Scan(&k.Digest, &k.Size, &at)
		k.UsedAt = time.UnixMilli(at)
		return err
	}, `SELECT digest, size, used_at FROM links WHERE did = ? ORDER BY digest`, string(did))
}

// OwnersOf are the DIDs that have a blob. It asks the writing connection: the answer decides about deletion.
func (l *Ledger) OwnersOf(ctx context.Context, d digest.Digest) ([]syntax.DID, error) {
	return collect(ctx, l.write, "list owners", func(rows *sql.Rows, did *syntax.DID) error { return rows.Scan(did) },
		`SELECT did FROM links WHERE digest = ?`, string(d))
}

// ManifestsOf are the manifests of a DID whose push was notified before the time, and is not known to be undone.
func (l *Ledger) ManifestsOf(ctx context.Context, did syntax.DID, before time.Time) ([]digest.Digest, error) {
	return collect(ctx, l.read, "list manifests", func(rows *sql.Rows, d *digest.Digest) error { return rows.Scan(d) },
		`SELECT digest FROM manifests WHERE did = ? AND notified_at > 0 AND notified_at < ? ORDER BY digest`, string(did), millis(before))
}

// Kept says whether a manifest keeps a blob of a DID: one notified, one reserved since the time, or one with layer records.
func (l *Ledger) Kept(ctx context.Context, did syntax.DID, d digest.Digest, reserved time.Time) (yes bool, err error) {
	row := l.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM links WHERE did = ?1 AND digest = ?2 AND (`+keptByManifest+` OR `+keptByLayer+`))`,
		string(did), string(d), millis(reserved))
	if err := row.Scan(&yes); err != nil {
		return false, fmt.Errorf("look up blob: %w", err)
	}
	return yes, nil
}

// Gone notes that a manifest was missed at its user's PDS at the time, unless a push of it was notified since. Its blobs count
// as used until now: one that comes back soon finds them.
func (l *Ledger) Gone(ctx context.Context, did syntax.DID, manifest digest.Digest, uri syntax.ATURI, at, now time.Time) (yes bool, err error) {
	err = l.inTx(ctx, "note missing manifest", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO manifests (did, digest, deleted_at, missed) VALUES (?1, ?2, ?4, 1)
			ON CONFLICT DO UPDATE SET deleted_at = excluded.deleted_at, missed = 1, notified_at = 0 WHERE notified_at < ?3`,
			string(did), string(manifest), millis(at), millis(now))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		yes = true
		if _, err := tx.ExecContext(ctx, `INSERT INTO manifest_blobs (did, manifest, digest, layer) SELECT did, ?1, digest, 1 FROM layers WHERE manifest = ?2
			ON CONFLICT DO NOTHING`, string(manifest), string(uri)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE links SET used_at = ?3 WHERE did = ?1 AND used_at < ?3
			AND digest IN (SELECT digest FROM manifest_blobs WHERE did = ?1 AND manifest = ?2)`, string(did), string(manifest), millis(now))
		return err
	})
	return yes, err
}

// NewestRev is the newest commit of a DID's repository that a notification named; empty when none did.
func (l *Ledger) NewestRev(ctx context.Context, did syntax.DID) (rev string, err error) {
	if err := l.read.QueryRowContext(ctx, `SELECT coalesce(max(rev), '') FROM manifests WHERE did = ?`, string(did)).Scan(&rev); err != nil {
		return "", fmt.Errorf("look up commits: %w", err)
	}
	return rev, nil
}

// Untold says whether a manifest was reserved before the time, and no push or deletion of it was notified since, or was
// missed by a collection.
func (l *Ledger) Untold(ctx context.Context, did syntax.DID, manifest digest.Digest, before time.Time) (yes bool, err error) {
	row := l.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM manifests WHERE did = ? AND digest = ? AND notified_at = 0
		AND (missed = 1 OR reserved_at > deleted_at AND reserved_at < ?))`, string(did), string(manifest), millis(before))
	if err := row.Scan(&yes); err != nil {
		return false, fmt.Errorf("look up manifest: %w", err)
	}
	return yes, nil
}

// InProgress says whether there is such an upload that is not completed, whosever it is.
func (l *Ledger) InProgress(ctx context.Context, id string) (yes bool, err error) {
	row := l.write.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM uploads WHERE id = ? AND digest = '')`, id)
	if err := row.Scan(&yes); err != nil {
		return false, fmt.Errorf("look up upload: %w", err)
	}
	return yes, nil
}
