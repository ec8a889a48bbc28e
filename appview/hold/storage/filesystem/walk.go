package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"atcr.io/operator/appview/hold/storage"
)

// Blobs implements [storage.Driver].
func (d *Driver) Blobs(ctx context.Context) iter.Seq2[storage.Stored, error] {
	return func(yield func(storage.Stored, error) bool) {
		err := filepath.WalkDir(filepath.Join(d.root, "blobs"), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
				return nil
			}
			if err = errors.Join(err, ctx.Err()); err != nil || e.IsDir() {
				return err
			}
			key, err := filepath.Rel(d.root, path)
			if err != nil {
				return err
			}
			dg, ok := storage.ParseBlobKey(filepath.ToSlash(key))
			if !ok {
				return nil
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !yield(storage.Stored{Digest: dg, Size: info.Size(), Modified: info.ModTime()}, nil) {
				err = fs.SkipAll
			}
			return err
		})
		if err != nil {
			yield(storage.Stored{}, fmt.Errorf("walk over blobs: %w", err))
		}
	}
}

// Uploads implements [storage.Driver].
func (d *Driver) Uploads(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := os.ReadDir(filepath.Join(d.root, "uploads"))
		if err != nil {
			yield("", fmt.Errorf("walk over uploads: %w", err))
			return
		}
		for _, e := range entries {
			if !storage.ValidUploadID(e.Name()) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield("", fmt.Errorf("walk over uploads: %w", err))
				return
			}
			if !yield(e.Name(), nil) {
				return
			}
		}
	}
}

// Tidy implements [storage.Driver]: files of health checks and of whole blobs that could not be removed. Those of a process
// that was killed are gone since [New].
func (d *Driver) Tidy(_ context.Context, before time.Time) (removed int, err error) {
	return d.tidy(func(modified time.Time) bool { return modified.Before(before) })
}

// tidy removes such files of which their time says so.
func (d *Driver) tidy(old func(modified time.Time) bool) (removed int, err error) {
	entries, err := os.ReadDir(filepath.Join(d.root, "uploads"))
	if err != nil {
		return 0, fmt.Errorf("tidy: %w", err)
	}
	for _, e := range entries {
		stray := strings.HasPrefix(e.Name(), checkPrefix) || strings.HasPrefix(e.Name(), wholePrefix)
		info, err := e.Info()
		if err != nil || e.IsDir() || !stray || !old(info.ModTime()) {
			continue
		}
		if err := os.Remove(filepath.Join(d.root, "uploads", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("tidy: %w", err)
		}
		removed++
	}
	return removed, nil
}

// checkPrefix begins the names of the files that Check makes.
const checkPrefix = ".check-"
