package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/sqlitedb"
)

// Linked is the size of a blob that the DID may have read from here, or [ErrNotFound].
func (l *Ledger) Linked(ctx context.Context, did syntax.DID, d digest.Digest) (size int64, err error) {
	if err := one(ctx, l.read, `SELECT size FROM links WHERE did = ? AND digest = ?`, string(did), string(d))(&size); err != nil {
		return 0, fmt.Errorf("look up blob: %w", notFound(err))
	}
	return size, nil
}

// Unlink takes a blob from a DID; it is no error when it had none. A manifest that names it and was reserved or pushed
// since keeps it, with a [BlobInUse].
func (l *Ledger) Unlink(ctx context.Context, did syntax.DID, d digest.Digest, since time.Time) error {
	return l.inTx(ctx, "unlink blob", func(tx *sql.Tx) error {
		var manifest digest.Digest
		err := tx.QueryRowContext(ctx, `SELECT m.digest FROM manifest_blobs b JOIN manifests m ON m.did = b.did AND m.digest = b.manifest
			WHERE b.did = ?1 AND b.digest = ?2 AND (m.reserved_at > ?3 OR m.notified_at > ?3) LIMIT 1`,
			string(did), string(d), millis(since)).Scan(&manifest)
		if err == nil {
			return &BlobInUse{manifest}
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM links WHERE did = ? AND digest = ?`, string(did), string(d))
		return err
	})
}

// BlobInUse is the answer when a manifest names the blob that is to go.
type BlobInUse struct{ Manifest digest.Digest }

func (e *BlobInUse) Error() string { return "the manifest " + string(e.Manifest) + " names it" }

// Upload is an upload in progress, or a completed one when Digest is set.
type Upload struct {
	ID     string // empty for a blob that came whole
	DID    syntax.DID
	Digest digest.Digest
	Size   int64
}

// ErrTooMany is the answer when a DID has as many uploads in progress as it may.
var ErrTooMany = errors.New("too many uploads in progress")

// soon runs a statement about an upload in progress. It does not wait for the disk, as the parts do not: after a power
// cut clients start again, and the sweeper finds parts without a row.
func (l *Ledger) soon(ctx context.Context, statement string, args ...any) (res sql.Result, err error) {
	err = sqlitedb.Soon(ctx, l.write, func(ctx context.Context, c *sql.Conn) error {
		res, err = c.ExecContext(ctx, statement, args...)
		return err
	})
	return res, err
}

// BeginUpload remembers a new upload, unless the DID has most in progress: the error is [ErrTooMany] then.
func (l *Ledger) BeginUpload(ctx context.Context, id string, did syntax.DID, most int, now time.Time) error {
	res, err := l.soon(ctx, `INSERT INTO uploads (id, did, touched_at)
		SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM uploads WHERE did = ?2 AND digest = '') < ?4`, id, string(did), millis(now), most)
	if err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("begin upload: %w", err)
	} else if n == 0 {
		return ErrTooMany
	}
	l.noted.Add(id, now)
	return nil
}

// OldestUpload is the upload in progress of a DID that was touched the longest ago, before the time; [ErrNotFound] when
// there is none.
func (l *Ledger) OldestUpload(ctx context.Context, did syntax.DID, before time.Time) (id string, err error) {
	row := l.read.QueryRowContext(ctx, `SELECT id FROM uploads WHERE did = ? AND digest = '' AND touched_at < ? ORDER BY touched_at, id LIMIT 1`,
		string(did), millis(before))
	if err := row.Scan(&id); err != nil {
		return "", fmt.Errorf("look up idle upload: %w", notFound(err))
	}
	return id, nil
}

// Upload is the upload of that id if it belongs to the DID, else [ErrNotFound].
func (l *Ledger) Upload(ctx context.Context, id string, did syntax.DID) (Upload, error) {
	u := Upload{ID: id, DID: did}
	if err := one(ctx, l.read, `SELECT digest, size FROM uploads WHERE id = ? AND did = ?`, id, string(did))(&u.Digest, &u.Size); err != nil {
		return Upload{}, fmt.Errorf("look up upload: %w", notFound(err))
	}
	return u, nil
}

// Uploader is whose an upload in progress is, or [ErrNotFound].
func (l *Ledger) Uploader(ctx context.Context, id string) (did syntax.DID, err error) {
	row := l.read.QueryRowContext(ctx, `SELECT did FROM uploads WHERE id = ? AND digest = ''`, id)
	if err := row.Scan(&did); err != nil {
		return "", fmt.Errorf("look up upload: %w", notFound(err))
	}
	return did, nil
}

// Uploaders are the DIDs with uploads in progress.
func (l *Ledger) Uploaders(ctx context.Context) ([]syntax.DID, error) {
	return collect(ctx, l.read, "list uploaders", func(rows *sql.Rows, did *syntax.DID) error { return rows.Scan(did) },
		`SELECT DISTINCT did FROM uploads WHERE digest = ''`)
}

// OpenUploads are the uploads in progress of a DID.
func (l *Ledger) OpenUploads(ctx context.Context, did syntax.DID) ([]string, error) {
	return collect(ctx, l.read, "list uploads", func(rows *sql.Rows, id *string) error { return rows.Scan(id) },
		`SELECT id FROM uploads WHERE did = ? AND digest = ''`, string(did))
}

// touchEvery is how far the time of an upload's progress may be behind: most uploads end sooner, and each note of it
// waits for the disk. Uploads live for a minute without progress at least.
const touchEvery = 10 * time.Second

// TouchUpload notes that an upload made progress, unless that was noted less than touchEvery ago.
func (l *Ledger) TouchUpload(ctx context.Context, id string, now time.Time) error {
	if noted, ok := l.noted.Get(id); ok && !now.Before(noted) && now.Sub(noted) < touchEvery {
		return nil
	}
	if _, err := l.soon(ctx, `UPDATE uploads SET touched_at = ? WHERE id = ? AND touched_at <= ?`,
		millis(now), id, millis(now.Add(-touchEvery))); err != nil {
		return fmt.Errorf("touch upload: %w", err)
	}
	l.noted.Add(id, now)
	return nil
}

// LinkedBytes is the size of all other blobs that the DID has, whether or not a manifest names them.
func (l *Ledger) LinkedBytes(ctx context.Context, did syntax.DID, except digest.Digest) (bytes int64, err error) {
	row := l.read.QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM links WHERE did = ? AND digest <> ?`, string(did), string(except))
	if err := row.Scan(&bytes); err != nil {
		return 0, fmt.Errorf("sum up blobs: %w", err)
	}
	return bytes, nil
}

// CompleteUpload links the blob to the upload's DID and remembers the answer, in one transaction. A DID whose blobs would
// be more than most bytes gets none more, with an [OverQuota]; 0: there is no such limit.
func (l *Ledger) CompleteUpload(ctx context.Context, u Upload, most int64, now time.Time) error {
	return l.inTx(ctx, "complete upload", func(tx *sql.Tx) error {
		if most > 0 {
			var others int64
			err := tx.QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM links WHERE did = ? AND digest <> ?`, string(u.DID), string(u.Digest)).Scan(&others)
			if err != nil {
				return err
			}
			if others+u.Size > most {
				return &OverQuota{Used: others, Needed: u.Size, Limit: most}
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO links (did, digest, size, used_at) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET size = excluded.size, used_at = excluded.used_at`,
			string(u.DID), string(u.Digest), u.Size, millis(now)); err != nil {
			return err
		}
		if u.ID == "" {
			return nil
		}
		_, err := tx.ExecContext(ctx, `UPDATE uploads SET touched_at = ?, digest = ?, size = ? WHERE id = ?`,
			millis(now), string(u.Digest), u.Size, u.ID)
		return err
	})
}

// ForgetUpload removes the row of an upload.
func (l *Ledger) ForgetUpload(ctx context.Context, id string) error {
	if _, err := l.soon(ctx, `DELETE FROM uploads WHERE id = ?`, id); err != nil {
		return fmt.Errorf("forget upload: %w", err)
	}
	return nil
}

// IdleUploads are at most 1000 uploads, completed or not, that were not touched since the time.
func (l *Ledger) IdleUploads(ctx context.Context, since time.Time) ([]Upload, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT id, did, digest, size FROM uploads WHERE touched_at < ? ORDER BY touched_at LIMIT 1000`, millis(since))
	if err != nil {
		return nil, fmt.Errorf("list idle uploads: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var found []Upload
	for rows.Next() {
		var u Upload
		if err := rows.Scan(&u.ID, &u.DID, &u.Digest, &u.Size); err != nil {
			return nil, fmt.Errorf("list idle uploads: %w", err)
		}
		found = append(found, u)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list idle uploads: %w", err)
	}
	return found, nil
}
