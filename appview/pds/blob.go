package pds

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

const (
	blobFolder      = "blobs"
	tempFolder      = blobFolder + "/tmp"
	defaultMimeType = "application/octet-stream"
)

// PutBlob stores a blob that waits for a record to reference it; maxBytes bounds it (ErrBlobTooLarge).
// The bytes are on the disk when it returns.
func (e *Engine) PutBlob(ctx context.Context, did syntax.DID, mimeType string, r io.Reader, maxBytes int64) (BlobRef, error) {
	id, err := e.repoID(ctx, did)
	if err != nil {
		return BlobRef{}, err
	}
	if mimeType == "" {
		mimeType = defaultMimeType
	}
	temp, err := os.CreateTemp(filepath.Join(e.cfg.Dir, tempFolder), "upload-*")
	if err != nil {
		return BlobRef{}, fmt.Errorf("store a blob: %w", err)
	}
	defer func() {
		temp.Close()
		_ = os.Remove(temp.Name()) // already renamed when all went well
	}()
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(temp, hash), io.LimitReader(r, maxBytes+1))
	if err != nil {
		return BlobRef{}, fmt.Errorf("store a blob: %w", err)
	}
	if size > maxBytes {
		return BlobRef{}, fmt.Errorf("store a blob: %w: at most %d bytes are allowed", ErrBlobTooLarge, maxBytes)
	}
	if err := temp.Sync(); err != nil {
		return BlobRef{}, fmt.Errorf("store a blob: %w", err)
	}
	digest, err := multihash.Encode(hash.Sum(nil), multihash.SHA2_256)
	if err != nil {
		return BlobRef{}, fmt.Errorf("store a blob: %w", err)
	}
	ref := atdata.Blob{Ref: atdata.CIDLink(cid.NewCidV1(cid.Raw, digest)), MimeType: mimeType, Size: size}
	if err := e.keepBlob(ctx, id, temp.Name(), ref); err != nil {
		return BlobRef{}, fmt.Errorf("store blob %s: %w", ref.Ref, err)
	}
	return ref, nil
}

// keepBlob moves the file to its place and then tells the database. Under mu: nobody removes the file in between.
func (e *Engine) keepBlob(ctx context.Context, repo int64, temp string, ref atdata.Blob) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	path := e.blobPath(repo, ref.Ref.CID())
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	// The folder, and those above it in case they are new.
	for _, d := range []string{dir, filepath.Dir(dir), filepath.Join(e.cfg.Dir, blobFolder)} {
		if err := syncFolder(d); err != nil {
			return err
		}
	}
	// The media type of a referenced blob stays: records name it.
	_, err := e.writer.ExecContext(context.WithoutCancel(ctx), `INSERT INTO blob (repo_id, cid, mime_type, size, uploaded_at) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET uploaded_at = excluded.uploaded_at, mime_type = CASE
			WHEN EXISTS (SELECT 1 FROM blob_ref WHERE repo_id = ?1 AND cid = ?2) THEN mime_type ELSE excluded.mime_type END`,
		repo, ref.Ref.CID().Bytes(), ref.MimeType, ref.Size, time.Now().UnixMilli())
	return err
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// blobPath spreads the files over folders by the last characters of the CID, the random ones.
func (e *Engine) blobPath(repo int64, c cid.Cid) string {
	name := c.String()
	return filepath.Join(e.cfg.Dir, blobFolder, strconv.FormatInt(repo, 10), name[len(name)-2:], name)
}

// OpenBlob opens a blob that a record references (ErrBlobNotFound).
func (e *Engine) OpenBlob(ctx context.Context, did syntax.DID, blob cid.Cid) (*Blob, error) {
	id, err := e.repoID(ctx, did)
	if err != nil {
		return nil, err
	}
	b := &Blob{CID: blob}
	var at int64
	err = e.reader.QueryRowContext(ctx, `SELECT mime_type, size, uploaded_at FROM blob WHERE repo_id = ?1 AND cid = ?2
		AND EXISTS (SELECT 1 FROM blob_ref WHERE repo_id = ?1 AND cid = ?2)`, id, blob.Bytes()).Scan(&b.MimeType, &b.Size, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%s: %w", blob, ErrBlobNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("look up blob %s: %w", blob, err)
	}
	b.ModTime = time.UnixMilli(at).UTC()
	f, err := os.Open(e.blobPath(id, blob))
	if errors.Is(err, fs.ErrNotExist) {
		// Its last record was deleted just now, or the file was lost.
		return nil, fmt.Errorf("%s: %w", blob, ErrBlobNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", blob, err)
	}
	b.ReadSeekCloser = f
	return b, nil
}

// checkBlobs refuses a commit whose records name blobs that were not uploaded, or were uploaded as something else.
func (e *Engine) checkBlobs(ctx context.Context, st *repoState, changes []change) error {
	for _, c := range changes {
		for _, b := range c.blobs {
			var mimeType string
			var size int64
			err := e.writer.QueryRowContext(ctx, `SELECT mime_type, size FROM blob WHERE repo_id = ? AND cid = ?`, st.id, b.Ref.CID().Bytes()).
				Scan(&mimeType, &size)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				return fmt.Errorf("%s names blob %s: %w", c.path, b.Ref, ErrBlobNotFound)
			case err != nil:
				return fmt.Errorf("look up blob %s: %w", b.Ref, err)
			case mimeType != b.MimeType || size != b.Size:
				return fmt.Errorf("%s: %w: stored as %s with %d bytes", c.path, ErrBlobMismatch, mimeType, size)
			}
		}
	}
	return nil
}

// storeBlobRefs moves the references with the records, and forgets blobs that lost their last one; it returns those.
func (e *Engine) storeBlobRefs(ctx context.Context, tx *sql.Tx, repo int64, changes []change) ([]cid.Cid, error) {
	var lost [][]byte
	for _, c := range changes {
		if c.prev != nil {
			was, err := queryBytes(ctx, tx, `DELETE FROM blob_ref WHERE repo_id = ? AND collection = ? AND rkey = ? RETURNING cid`, repo, c.Collection, c.RKey)
			if err != nil {
				return nil, fmt.Errorf("drop the blob references of %s: %w", c.path, err)
			}
			lost = append(lost, was...)
		}
	}
	for _, c := range changes {
		for _, b := range c.blobs {
			_, err := tx.ExecContext(ctx, `INSERT INTO blob_ref (repo_id, cid, collection, rkey) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				repo, b.Ref.CID().Bytes(), c.Collection, c.RKey)
			if err != nil {
				return nil, fmt.Errorf("store the blob references of %s: %w", c.path, err)
			}
		}
	}
	var gone []cid.Cid
	for _, b := range lost {
		// One uploaded a moment ago may be about to be referenced by another write: that is for the sweep.
		dropped, err := queryBytes(ctx, tx, `DELETE FROM blob WHERE repo_id = ?1 AND cid = ?2 AND uploaded_at < ?3
			AND NOT EXISTS (SELECT 1 FROM blob_ref WHERE repo_id = ?1 AND cid = ?2) RETURNING cid`, repo, b, e.tempBlobHorizon())
		if err != nil {
			return nil, fmt.Errorf("drop an unreferenced blob: %w", err)
		}
		for _, d := range dropped {
			c, err := cid.Cast(d)
			if err != nil {
				return nil, fmt.Errorf("parse the CID of a blob: %w", err)
			}
			gone = append(gone, c)
		}
	}
	return gone, nil
}

func queryBytes(ctx context.Context, q querier, query string, args ...any) ([][]byte, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out [][]byte
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, rows.Err()
}
