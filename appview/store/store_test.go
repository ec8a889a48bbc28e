package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func both(t *testing.T, test func(t *testing.T, db *DB)) {
	for name, path := range map[string]string{"file": filepath.Join(t.TempDir(), "sub dir", "ui.db"), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			db, err := Open(t.Context(), Options{Path: path})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			test(t, db)
		})
	}
}

func row(credential string, version int64) PDSSession {
	return PDSSession{Credential: credential, DID: "did:plc:a", PDS: "https://pds", Sealed: []byte{1, 2}, ExpiresAt: time.Unix(100, 0),
		EndsAt: time.Unix(200, 0), Version: version, UpdatedAt: time.Unix(10+version, 0)}
}

func TestASessionIsFoundByCredentialAndTheLatestByDID(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		_, err := db.SessionByCredential(t.Context(), "x")
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, db.SaveSession(t.Context(), row("old", 1)))
		require.NoError(t, db.SaveSession(t.Context(), row("new", 2)))
		got, err := db.SessionByCredential(t.Context(), "old")
		require.NoError(t, err)
		require.Equal(t, row("old", 1), *got)
		got, err = db.LatestSession(t.Context(), "did:plc:a")
		require.NoError(t, err)
		require.Equal(t, "new", got.Credential)
	})
}

func TestDeletingAnOldVersionLeavesTheNewOne(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		require.NoError(t, db.SaveSession(t.Context(), row("c", 2)))
		require.NoError(t, db.DeleteSession(t.Context(), "c", 1))
		_, err := db.SessionByCredential(t.Context(), "c")
		require.NoError(t, err)
		require.NoError(t, db.DeleteSession(t.Context(), "c", 2))
		_, err = db.SessionByCredential(t.Context(), "c")
		require.ErrorIs(t, err, ErrNotFound)
	})
}

func TestSweepRemovesWhatCannotBeRefreshed(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		require.NoError(t, db.SaveSession(t.Context(), row("c", 1)))
		n, err := db.SweepSessions(t.Context(), time.Unix(200, 0))
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = db.SweepSessions(t.Context(), time.Unix(201, 0))
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
	})
}

func TestALeaseHasOneHolderAtATime(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		var inside, most atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				release, err := db.Lease(t.Context(), "n", time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				inside.Add(-1)
				release()
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, most.Load())
	})
}

func TestALeaseOfADeadHolderRunsOut(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		_, err := db.Lease(t.Context(), "n", 20*time.Millisecond)
		require.NoError(t, err)
		release, err := db.Lease(t.Context(), "n", time.Minute)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err = db.Lease(ctx, "n", time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		release()
	})
}

func TestTwoProcessesShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.db")
	a, err := Open(t.Context(), Options{Path: path})
	require.NoError(t, err)
	defer a.Close()
	b, err := Open(t.Context(), Options{Path: path})
	require.NoError(t, err)
	defer b.Close()
	require.NoError(t, a.SaveSession(t.Context(), row("c", 1)))
	_, err = b.SessionByCredential(t.Context(), "c")
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestAFailedWriteLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		boom := errors.New("boom")
		err := db.Write(t.Context(), func(tx Tx) error {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO leases VALUES ('n', 'h', 1)`); err != nil {
				return err
			}
			return boom
		})
		require.ErrorIs(t, err, boom)
		require.NoError(t, db.Read(t.Context(), func(q Querier) error {
			var n int
			require.NoError(t, q.QueryRowContext(t.Context(), `SELECT count(*) FROM leases`).Scan(&n))
			require.Zero(t, n)
			return nil
		}))
	})
}

func TestAReaderCannotWrite(t *testing.T) {
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ui.db")})
	require.NoError(t, err)
	defer db.Close()
	_, err = db.reader.Exec(`DELETE FROM leases`)
	require.ErrorContains(t, err, "readonly")
}

func TestASchemaOfANewerReleaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.db")
	db, err := Open(t.Context(), Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, db.Write(t.Context(), func(tx Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
		return err
	}))
	require.NoError(t, db.Close())
	_, err = Open(t.Context(), Options{Path: path})
	require.ErrorIs(t, err, ErrNewerSchema)
}

func TestAFileThatIsNoDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.db")
	require.NoError(t, os.WriteFile(path, []byte("this is not a database, it is a text file of some length"), 0o600))
	_, err := Open(t.Context(), Options{Path: path})
	require.Error(t, err)
}

func TestACommitIsOnTheDiskWhenWriteReturns(t *testing.T) {
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ui.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	var level int
	require.NoError(t, db.Write(t.Context(), func(tx Tx) error {
		return tx.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&level)
	}))
	require.Equal(t, 2, level, "FULL; NORMAL loses the last commits in a power cut")
}

func TestAnOldFileIsNoLongerReadableByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.db")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	require.NoError(t, os.Chmod(path, 0o644)) // whatever the umask
	db, err := Open(t.Context(), Options{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}
