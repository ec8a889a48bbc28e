package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"atcr.io/operator/appview/store"
)

// Restore puts the backup in place of the database at path, and keeps what was there beside it; kept is its name, or
// empty when there was none. It refuses while a server uses the database ([store.ErrLocked]), a backup that is damaged,
// and one with a newer schema than this release knows ([store.ErrNewerSchema]). An older schema is brought up to date
// when the server starts.
func Restore(ctx context.Context, backup, path string, now time.Time) (kept string, err error) {
	lock, err := store.Lock(ctx, path+".lock")
	if err != nil {
		return "", fmt.Errorf("restoring %s: %w", path, err)
	}
	defer lock.Close()
	if _, err := store.Check(ctx, backup); err != nil {
		return "", fmt.Errorf("checking the backup: %w", err)
	}
	tmp := path + ".restoring"
	defer os.Remove(tmp) //nolint:errcheck // it is there after a failure only
	if err := copyFile(backup, tmp); err != nil {
		return "", fmt.Errorf("copying the backup: %w", err)
	}
	if _, err := store.Check(ctx, tmp); err != nil {
		return "", fmt.Errorf("checking the copy: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		kept = path + ".before-" + now.UTC().Format(layout)
		if _, err := os.Lstat(kept); err == nil {
			return "", fmt.Errorf("%s is in the way", kept)
		}
		// The log belongs to the file: what was committed last may be in it alone. A crash in between leaves no database
		// at path, and everything beside it.
		for _, part := range []string{"-wal", "-shm", ""} {
			if err := os.Rename(path+part, kept+part); err != nil && !errors.Is(err, os.ErrNotExist) {
				return "", fmt.Errorf("keeping the old database: %w", err)
			}
		}
	}
	return kept, settle(tmp, path)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Clean(to), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
