package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
)

// sweepLoop removes in the background what nobody needs any more.
func (e *Engine) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		if err := e.Sweep(ctx); err != nil && ctx.Err() == nil {
			e.log.Error("sweep of blobs and events failed, it is tried again", "in", sweepInterval, "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep removes blobs that no record references and that were uploaded longer than Config.TempBlobTTL ago, blob files
// that the database does not know (an upload cut off by a crash), and events older than Config.EventRetention.
func (e *Engine) Sweep(ctx context.Context) error {
	return errors.Join(e.sweepBlobs(ctx), e.sweepFiles(ctx), e.sweepEvents(ctx))
}

func (e *Engine) tempBlobHorizon() int64 { return time.Now().Add(-e.cfg.TempBlobTTL).UnixMilli() }

func (e *Engine) sweepBlobs(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	rows, err := e.writer.QueryContext(ctx, `DELETE FROM blob WHERE uploaded_at < ? AND NOT EXISTS
		(SELECT 1 FROM blob_ref r WHERE r.repo_id = blob.repo_id AND r.cid = blob.cid) RETURNING repo_id, cid`, e.tempBlobHorizon())
	if err != nil {
		return fmt.Errorf("drop unreferenced blobs: %w", err)
	}
	gone := map[int64][]cid.Cid{}
	for rows.Next() {
		var repo int64
		var raw []byte
		if err := rows.Scan(&repo, &raw); err != nil {
			return errors.Join(fmt.Errorf("drop unreferenced blobs: %w", err), rows.Close())
		}
		c, err := cid.Cast(raw)
		if err != nil {
			return errors.Join(fmt.Errorf("parse the CID of a blob: %w", err), rows.Close())
		}
		gone[repo] = append(gone[repo], c)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("drop unreferenced blobs: %w", err)
	}
	for repo, cids := range gone {
		e.removeBlobFiles(repo, cids)
	}
	return nil
}

// removeBlobFiles removes files whose rows are gone. One that stays for an error is found by sweepFiles. Call with mu held.
func (e *Engine) removeBlobFiles(repo int64, gone []cid.Cid) {
	for _, c := range gone {
		if err := os.Remove(e.blobPath(repo, c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.log.Warn("an unreferenced blob could not be removed", "cid", c.String(), "error", err)
		}
	}
}

func (e *Engine) sweepFiles(ctx context.Context) error {
	root := filepath.Join(e.cfg.Dir, blobFolder)
	horizon := time.UnixMilli(e.tempBlobHorizon())
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile
			}
			return err
		}
		if d.IsDir() {
			if path == filepath.Join(e.cfg.Dir, tempFolder) {
				return fs.SkipDir // uploads under way
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || info.ModTime().After(horizon) {
			return nil // gone meanwhile, or perhaps about to be entered in the database
		}
		return e.removeUnknown(ctx, path)
	})
	if err != nil {
		return fmt.Errorf("look for unknown blob files: %w", err)
	}
	return nil
}

func (e *Engine) removeUnknown(ctx context.Context, path string) error {
	repo, err := strconv.ParseInt(filepath.Base(filepath.Dir(filepath.Dir(path))), 10, 64)
	if err != nil {
		return nil // not ours
	}
	c, err := cid.Decode(filepath.Base(path))
	if err != nil {
		return nil // not ours
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var one int
	err = e.writer.QueryRowContext(ctx, `SELECT 1 FROM blob WHERE repo_id = ? AND cid = ?`, repo, c.Bytes()).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return os.Remove(path)
	}
	return err
}

// sweepEvents forgets old events, but never the latest one.
func (e *Engine) sweepEvents(ctx context.Context) error {
	horizon := time.Now().Add(-e.cfg.EventRetention).UnixMilli()
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.writer.ExecContext(ctx, `DELETE FROM event WHERE seq < (SELECT coalesce(min(seq), (SELECT max(seq) FROM event)) FROM event WHERE at >= ?)`, horizon)
	if err != nil {
		return fmt.Errorf("drop old events: %w", err)
	}
	return nil
}

// emptyTempFolder removes uploads that a crash cut off; at start, nobody uploads yet.
func (e *Engine) emptyTempFolder() error {
	dir := filepath.Join(e.cfg.Dir, tempFolder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the folder of uploads: %w", err)
	}
	for _, entry := range entries {
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("remove an old upload: %w", err)
		}
	}
	return nil
}
