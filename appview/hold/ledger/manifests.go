package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// Blob is one that a manifest names.
type Blob struct {
	Digest digest.Digest
	Size   int64 // as the manifest says; not compared when negative
	Layer  bool  // it has a layer record; the config has none
}

// Reservation is a manifest that is about to be pushed.
type Reservation struct {
	DID      syntax.DID
	Manifest digest.Digest
	Blobs    []Blob
	Limit    int64         // bytes of the DID's blobs that manifests name; 0: none
	Counted  time.Duration // how long a reservation that no push followed counts towards the limit
	Now      time.Time
}

// Errors of [Ledger.Reserve].
type (
	// MissingBlob: the DID does not have the blob here.
	MissingBlob struct{ Digest digest.Digest }
	// OtherSize: the manifest says another size than the blob has.
	OtherSize struct {
		Digest digest.Digest
		Size   int64 // that it has
	}
	// OverQuota: the manifest's blobs do not fit.
	OverQuota struct{ Used, Needed, Limit int64 }
)

func (e *MissingBlob) Error() string { return "no blob " + string(e.Digest) }
func (e *OtherSize) Error() string   { return fmt.Sprintf("blob %s has %d bytes", e.Digest, e.Size) }
func (e *OverQuota) Error() string {
	return fmt.Sprintf("%d bytes used and %d more needed of %d", e.Used, e.Needed, e.Limit)
}

// Reserve keeps the blobs of a manifest until its push is notified, and counts them, if the DID has all of them
// and they fit into the limit. A manifest that adds nothing to what is used fits always. One transaction: of two
// reservations that fit only alone, one is refused.
func (l *Ledger) Reserve(ctx context.Context, r Reservation) error {
	return l.inTx(ctx, "reserve manifest", func(tx *sql.Tx) error {
		var before int64
		if r.Limit > 0 {
			var err error
			if _, before, err = used(ctx, tx, r.DID, r.Now.Add(-r.Counted)); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO manifests (did, digest, reserved_at) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET reserved_at = excluded.reserved_at`, string(r.DID), string(r.Manifest), millis(r.Now)); err != nil {
			return err
		}
		for _, b := range r.Blobs {
			var size int64
			err := tx.QueryRowContext(ctx, `UPDATE links SET used_at = ? WHERE did = ? AND digest = ? RETURNING size`,
				millis(r.Now), string(r.DID), string(b.Digest)).Scan(&size)
			if errors.Is(err, sql.ErrNoRows) {
				return &MissingBlob{b.Digest}
			}
			if err != nil {
				return err
			}
			if b.Size >= 0 && b.Size != size {
				return &OtherSize{b.Digest, size}
			}
			if err := keepBlob(ctx, tx, r.DID, r.Manifest, b); err != nil {
				return err
			}
		}
		if r.Limit == 0 {
			return nil
		}
		_, after, err := used(ctx, tx, r.DID, r.Now.Add(-r.Counted))
		if err == nil && after > r.Limit && after > before {
			err = &OverQuota{Used: before, Needed: after - before, Limit: r.Limit}
		}
		return err
	})
}

func keepBlob(ctx context.Context, tx *sql.Tx, did syntax.DID, manifest digest.Digest, b Blob) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO manifest_blobs (did, manifest, digest, layer) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET layer = max(layer, excluded.layer)`, string(did), string(manifest), string(b.Digest), b.Layer)
	return err
}

// freeConfig is the most bytes of a config that counts for nothing. Real ones have a few KiB; holds and registries of
// other makes count layer records alone, of which configs have none.
const freeConfig = 1 << 20

// used is what the manifests of a DID name here, every blob once: layers by their records, and layers and large configs by
// the manifests that were notified, or reserved since the time. A notification need not list what the reservation did.
func used(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, did syntax.DID, reserved time.Time) (blobs, bytes int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(size), 0) FROM (
		SELECT digest, max(size) AS size FROM (
			SELECT digest, size FROM layers WHERE did = ?1
			UNION ALL
			SELECT b.digest, k.size FROM manifests m
				JOIN manifest_blobs b ON b.did = m.did AND b.manifest = m.digest
				JOIN links k ON k.did = b.did AND k.digest = b.digest
				WHERE m.did = ?1 AND (m.notified_at > 0 OR m.reserved_at > ?2) AND (b.layer = 1 OR k.size > ?3)
		) GROUP BY digest)`, string(did), millis(reserved), freeConfig).Scan(&blobs, &bytes)
	return blobs, bytes, err
}

// Usage is what a DID stores: distinct blobs of its manifests that count, and their bytes. One that others have too counts
// in full; reservations do not.
func (l *Ledger) Usage(ctx context.Context, did syntax.DID, now time.Time) (blobs, bytes int64, err error) {
	if blobs, bytes, err = used(ctx, l.read, did, now.AddDate(1, 0, 0)); err != nil {
		return 0, 0, fmt.Errorf("sum up blobs: %w", err)
	}
	return blobs, bytes, nil
}

// Knows says whether a manifest has to do with this hold: the DID reserved or pushed it here, or has a blob here that
// it names, or an entry of it is known.
func (l *Ledger) Knows(ctx context.Context, did syntax.DID, manifest digest.Digest, blobs []Blob, entries []digest.Digest) (yes bool, err error) {
	manifests := append([]digest.Digest{manifest}, entries...)
	named := []digest.Digest{}
	for _, b := range blobs {
		named = append(named, b.Digest)
	}
	all, err := json.Marshal(map[string]any{"manifests": manifests, "blobs": named})
	if err != nil {
		return false, err
	}
	row := l.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM json_each(?2, '$.blobs') j JOIN links k ON k.did = ?1 AND k.digest = j.value)
		OR EXISTS (SELECT 1 FROM json_each(?2, '$.manifests') j JOIN manifests m ON m.did = ?1 AND m.digest = j.value)`, string(did), string(all))
	if err := row.Scan(&yes); err != nil {
		return false, fmt.Errorf("look up manifest: %w", err)
	}
	return yes, nil
}

// Notified is what a notification says of a manifest.
type Notified struct {
	DID      syntax.DID
	Manifest digest.Digest
	Rev      string // commit of the user's repository; empty when not known
	Blobs    []Blob // of a push; those that the DID does not have here are left out
	Now      time.Time
}

// Pushed notes that a manifest is public. It is false when a newer notification of the manifest came before: then
// nothing changes.
func (l *Ledger) Pushed(ctx context.Context, n Notified) (current bool, err error) {
	err = l.inTx(ctx, "note push", func(tx *sql.Tx) error {
		if current, err = newest(ctx, tx, n); err != nil || !current {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO manifests (did, digest, rev, notified_at) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET rev = max(rev, excluded.rev), notified_at = excluded.notified_at, reserved_at = 0, deleted_at = 0, missed = 0`,
			string(n.DID), string(n.Manifest), n.Rev, millis(n.Now)); err != nil {
			return err
		}
		for _, b := range n.Blobs {
			res, err := tx.ExecContext(ctx, `UPDATE links SET used_at = ? WHERE did = ? AND digest = ?`, millis(n.Now), string(n.DID), string(b.Digest))
			if err != nil {
				return err
			}
			if has, err := res.RowsAffected(); err != nil {
				return err
			} else if has == 0 {
				continue
			}
			if err := keepBlob(ctx, tx, n.DID, n.Manifest, b); err != nil {
				return err
			}
		}
		return nil
	})
	return current, err
}

// Deleted notes that a manifest is gone. It is false when a newer notification of the manifest came before: then
// nothing changes. Its layers are still listed by [Ledger.LayersOf] until [Ledger.ForgetLayers]. A reservation stays: the
// manifest may be about to be pushed again.
func (l *Ledger) Deleted(ctx context.Context, n Notified) (current bool, err error) {
	err = l.inTx(ctx, "note deletion", func(tx *sql.Tx) error {
		if current, err = newest(ctx, tx, n); err != nil || !current {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO manifests (did, digest, rev, deleted_at) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET rev = max(rev, excluded.rev), deleted_at = excluded.deleted_at, notified_at = 0, missed = 0`,
			string(n.DID), string(n.Manifest), n.Rev, millis(n.Now)); err != nil {
			return err
		}
		// The same manifest pushed again is a new push.
		_, err := tx.ExecContext(ctx, `DELETE FROM pushes WHERE did = ? AND digest = ?`, string(n.DID), string(n.Manifest))
		return err
	})
	return current, err
}

// newest says whether no notification of a later commit was seen. Revisions are TIDs, which sort by time.
func newest(ctx context.Context, tx *sql.Tx, n Notified) (yes bool, err error) {
	var rev string
	err = tx.QueryRowContext(ctx, `SELECT rev FROM manifests WHERE did = ? AND digest = ?`, string(n.DID), string(n.Manifest)).Scan(&rev)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	return n.Rev == "" || n.Rev >= rev, nil
}

// Unlink rules: what keeps a blob that was asked to go.
const (
	// keptByManifest: a public manifest, or one reserved since ?3, names it.
	keptByManifest = `EXISTS (SELECT 1 FROM manifest_blobs b JOIN manifests m ON m.did = b.did AND m.digest = b.manifest
		WHERE b.did = links.did AND b.digest = links.digest AND (m.notified_at > 0 OR m.reserved_at > ?3))`
	keptByLayer = `EXISTS (SELECT 1 FROM layers y WHERE y.did = links.did AND y.digest = links.digest)`
)

// UnlinkUnused takes a blob from a DID unless it was used since, or a manifest names it: a public one, or one that was
// reserved since reserved. It says whether the blob went.
func (l *Ledger) UnlinkUnused(ctx context.Context, did syntax.DID, d digest.Digest, reserved, used time.Time) (gone bool, err error) {
	res, err := l.write.ExecContext(ctx, `DELETE FROM links WHERE did = ?1 AND digest = ?2 AND used_at < ?4 AND NOT `+keptByManifest+` AND NOT `+keptByLayer,
		string(did), string(d), millis(reserved), millis(used))
	if err != nil {
		return false, fmt.Errorf("unlink unused blob: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Unnamed is a blob of a DID that no manifest names which the hold was ever told of.
type Unnamed struct {
	DID    syntax.DID
	Digest digest.Digest
}

// UnnamedBlobs are at most 1000 blobs that were not used since the time, and that no manifest and no layer record names: those
// of one DID in the order of their last use, or with none those of all DIDs, another choice each time.
func (l *Ledger) UnnamedBlobs(ctx context.Context, of syntax.DID, used time.Time) ([]Unnamed, error) {
	return collect(ctx, l.read, "list blobs without a manifest", func(rows *sql.Rows, u *Unnamed) error { return rows.Scan(&u.DID, &u.Digest) },
		`SELECT did, digest FROM links WHERE used_at < ?1 AND (?2 = '' OR did = ?2) AND NOT `+keptByLayer+` AND NOT EXISTS (
			SELECT 1 FROM manifest_blobs b WHERE b.did = links.did AND b.digest = links.digest)
			ORDER BY CASE WHEN ?2 = '' THEN random() ELSE used_at END LIMIT 1000`, millis(used), string(of))
}

// Use notes that a blob of a DID is in use.
func (l *Ledger) Use(ctx context.Context, did syntax.DID, d digest.Digest, now time.Time) error {
	if _, err := l.write.ExecContext(ctx, `UPDATE links SET used_at = ? WHERE did = ? AND digest = ?`, millis(now), string(did), string(d)); err != nil {
		return fmt.Errorf("note use of blob: %w", err)
	}
	return nil
}

// Dead is a manifest that is gone.
type Dead struct {
	DID      syntax.DID
	Manifest digest.Digest
}

// DeadManifests are at most 1000 manifests, of one DID unless that is empty, that were deleted before the time, or missed before
// missed, or reserved before reserved and never pushed, and that still have blobs listed; another choice each time, so that
// those that have to stay hold up no others.
func (l *Ledger) DeadManifests(ctx context.Context, of syntax.DID, deleted, missed, reserved time.Time) ([]Dead, error) {
	return collect(ctx, l.read, "list deleted manifests", func(rows *sql.Rows, d *Dead) error { return rows.Scan(&d.DID, &d.Manifest) },
		`SELECT did, digest FROM manifests m WHERE notified_at = 0 AND reserved_at < ?2 AND (?3 = '' OR did = ?3)
			AND (deleted_at > 0 AND deleted_at < CASE missed WHEN 1 THEN ?4 ELSE ?1 END OR deleted_at = 0 AND reserved_at > 0)
			AND EXISTS (SELECT 1 FROM manifest_blobs b WHERE b.did = m.did AND b.manifest = m.digest)
			ORDER BY random() LIMIT 1000`, millis(deleted), millis(reserved), string(of), millis(missed))
}

// BlobsOf are the blobs that a manifest of the DID names, as far as the hold was told.
func (l *Ledger) BlobsOf(ctx context.Context, did syntax.DID, manifest digest.Digest) ([]digest.Digest, error) {
	return collect(ctx, l.read, "list blobs of manifest", func(rows *sql.Rows, d *digest.Digest) error { return rows.Scan(d) },
		`SELECT digest FROM manifest_blobs WHERE did = ? AND manifest = ? ORDER BY digest`, string(did), string(manifest))
}

// ForgetBlobs forgets what a manifest that is gone has named. One that was pushed or reserved since keeps it.
func (l *Ledger) ForgetBlobs(ctx context.Context, d Dead, reserved time.Time) error {
	_, err := l.write.ExecContext(ctx, `DELETE FROM manifest_blobs WHERE did = ?1 AND manifest = ?2 AND NOT EXISTS (
		SELECT 1 FROM manifests WHERE did = ?1 AND digest = ?2 AND (notified_at > 0 OR reserved_at > ?3))`,
		string(d.DID), string(d.Manifest), millis(reserved))
	if err != nil {
		return fmt.Errorf("forget blobs of manifest: %w", err)
	}
	return nil
}

// ForgetManifests forgets manifests without blobs that were deleted or reserved before the time: no notification that
// is older than their last one can arrive any more.
func (l *Ledger) ForgetManifests(ctx context.Context, before time.Time) error {
	_, err := l.write.ExecContext(ctx, `DELETE FROM manifests WHERE notified_at = 0 AND deleted_at < ?1 AND reserved_at < ?1
		AND NOT EXISTS (SELECT 1 FROM manifest_blobs b WHERE b.did = manifests.did AND b.manifest = manifests.digest)`, millis(before))
	if err != nil {
		return fmt.Errorf("forget manifests: %w", err)
	}
	return nil
}

func (l *Ledger) inTx(ctx context.Context, doing string, do func(*sql.Tx) error) error {
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if err := do(tx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db *sql.DB, doing string, scan func(*sql.Rows, *T) error, query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var found []T
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		found = append(found, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return found, nil
}
