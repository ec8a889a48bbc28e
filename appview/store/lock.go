package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"
)

// ErrLocked: another process has the SQLite file open for itself.
var ErrLocked = errors.New("another process has it open, and SQLite serves one server only; stop the other, or give all replicas one PostgreSQL by ATCR_DATABASE_URL")

var lockWait = 5 * time.Second // for a predecessor that is just ending

const lockPoll = 50 * time.Millisecond

// lockFile takes an advisory lock that ends with the process, however it ends. It is on a file of its own: SQLite's own
// locks on the database would be lost when another descriptor of it is closed.
func lockFile(ctx context.Context, path string, wait time.Duration, log *slog.Logger) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening its lock file: %w; is its directory writable?", err)
	}
	deadline := time.Now().Add(wait)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.ENOLCK):
			log.WarnContext(ctx, "this file system has no locks: see to it that one server alone uses the database", "path", path)
			return f, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("locking: %w", err), f.Close())
		case time.Now().After(deadline):
			return nil, errors.Join(ErrLocked, f.Close())
		}
		pause := time.NewTimer(lockPoll)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-pause.C:
		}
	}
}
