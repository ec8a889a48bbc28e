package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"atcr.io/operator/appview/store"
)

// ErrNoSpace: the file system has too little room for another backup.
var ErrNoSpace = errors.New("too little space for a backup")

const (
	prefix = "backup-"
	suffix = ".db"
	layout = "20060102T150405Z" // UTC; by name is by age

	temporary = ".backup-" // of one that is being made, or was when its server was killed

	// spare is left free beside the backup: the database itself must go on growing.
	spare = 16 << 20
)

// Dir is a directory of backups. It is made when the first one is.
type Dir struct {
	Path string
	Keep int // how many, the newest; at least 1
	// Free is how many bytes the file system of a directory has for us; nil asks the system.
	Free func(dir string) (int64, error)
}

// File is one backup.
type File struct {
	Path string
	Time time.Time
	Size int64 // bytes
}

// Make copies the database at path, which a server may be using. It returns the new backup, and removes those that are
// not to be kept. After an error everything is as before.
func (d Dir) Make(ctx context.Context, path string, now time.Time) (File, error) {
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return File{}, fmt.Errorf("making the directory of backups: %w", err)
	}
	if err := d.room(path); err != nil {
		return File{}, err
	}
	f := File{Path: filepath.Join(d.Path, prefix+now.UTC().Format(layout)+suffix), Time: now.UTC().Truncate(time.Second)}
	if _, err := os.Lstat(f.Path); err == nil {
		return File{}, fmt.Errorf("there is a backup %s already", f.Path)
	}
	// Under a lock, since the temporary name of another that is at work must not be taken for a leftover.
	unlock, err := d.lock(ctx)
	if err != nil {
		return File{}, err
	}
	defer unlock()
	tmp := filepath.Join(d.Path, temporary+"part")
	defer os.Remove(tmp) //nolint:errcheck // it is there after a failure only
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return File{}, fmt.Errorf("removing what an interrupted backup left: %w", err)
	}
	if err := store.Copy(ctx, path, tmp); err != nil {
		return File{}, fmt.Errorf("copying the database: %w", err)
	}
	if _, err := store.Check(ctx, tmp); err != nil {
		return File{}, fmt.Errorf("checking the copy: %w", err)
	}
	if err := settle(tmp, f.Path); err != nil {
		return File{}, err
	}
	if info, err := os.Stat(f.Path); err == nil {
		f.Size = info.Size()
	}
	return f, d.prune()
}

// room says whether a copy of the database fits.
func (d Dir) room(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("looking at the database: %w", err)
	}
	need := info.Size() + spare
	if wal, err := os.Stat(path + "-wal"); err == nil {
		need += wal.Size()
	}
	free := d.Free
	if free == nil {
		free = Available
	}
	have, err := free(d.Path)
	if err != nil {
		return fmt.Errorf("looking for space in %s: %w", d.Path, err)
	}
	if have < need {
		return fmt.Errorf("%w in %s: %d MiB are free, %d are needed; make the volume larger, or keep fewer", ErrNoSpace, d.Path, have>>20, need>>20)
	}
	return nil
}

// Available is how many bytes the file system of dir has left for this user.
func Available(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// lock keeps a second process from making a backup in the same directory.
func (d Dir) lock(ctx context.Context) (unlock func(), err error) {
	f, err := store.Lock(ctx, filepath.Join(d.Path, ".lock"))
	if err != nil {
		return nil, fmt.Errorf("another backup is being made: %w", err)
	}
	return func() { f.Close() }, nil
}

// settle makes a finished file durable under its name.
func settle(tmp, path string) error {
	f, err := os.OpenFile(tmp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// List is the backups, the newest first. A directory that is not there has none.
func (d Dir) List() ([]File, error) {
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("listing backups: %w", err)
	}
	var out []File
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), prefix)
		name, ok2 := strings.CutSuffix(name, suffix)
		at, err := time.Parse(layout, name)
		if !ok || !ok2 || err != nil {
			continue // somebody else's file
		}
		info, err := e.Info()
		if err != nil {
			continue // just removed
		}
		out = append(out, File{filepath.Join(d.Path, e.Name()), at, info.Size()})
	}
	slices.SortFunc(out, func(a, b File) int { return b.Time.Compare(a.Time) })
	return out, nil
}

func (d Dir) prune() error {
	all, err := d.List()
	if err != nil {
		return err
	}
	for _, f := range all[min(max(d.Keep, 1), len(all)):] {
		if err := os.Remove(f.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing an old backup: %w", err)
		}
	}
	return nil
}
