package store_test

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

	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

func all(t *testing.T, test func(t *testing.T, db *store.DB)) {
	storetest.All(t, func(t *testing.T, e storetest.Engine) { test(t, e.Open(t)) })
}

func row(credential string, version int64) store.PDSSession {
	return store.PDSSession{Credential: credential, DID: "did:plc:a", PDS: "https://pds", Sealed: []byte{1, 2}, ExpiresAt: time.Unix(100, 0),
		EndsAt: time.Unix(200, 0), Version: version, UpdatedAt: time.Unix(10+version, 0)}
}

func TestASessionIsFoundByCredentialAndTheLatestByDID(t *testing.T) {
	all(t, func(t *testing.T, db *store.DB) {
		_, err := db.SessionByCredential(t.Context(), "x")
		require.ErrorIs(t, err, store.ErrNotFound)
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
	all(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.SaveSession(t.Context(), row("c", 2)))
		require.NoError(t, db.DeleteSession(t.Context(), "c", 1))
		_, err := db.SessionByCredential(t.Context(), "c")
		require.NoError(t, err)
		require.NoError(t, db.DeleteSession(t.Context(), "c", 2))
		_, err = db.SessionByCredential(t.Context(), "c")
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

func TestSweepRemovesWhatCannotBeRefreshed(t *testing.T) {
	all(t, func(t *testing.T, db *store.DB) {
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
	all(t, func(t *testing.T, db *store.DB) {
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
	all(t, func(t *testing.T, db *store.DB) {
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

func TestTwoProcessesShareADatabase(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		a, b := e.Open(t), e.Open(t)
		require.NoError(t, a.SaveSession(t.Context(), row("c", 1)))
		_, err := b.SessionByCredential(t.Context(), "c")
		require.NoError(t, err)
		if e.Path != "" {
			info, err := os.Stat(e.Path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		}
	})
}

func TestAFailedWriteLeavesNothing(t *testing.T) {
	all(t, func(t *testing.T, db *store.DB) {
		boom := errors.New("boom")
		err := db.Write(t.Context(), func(tx store.Tx) error {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO leases VALUES ('n', 'h', 1)`); err != nil {
				return err
			}
			return boom
		})
		require.ErrorIs(t, err, boom)
		require.NoError(t, db.Read(t.Context(), func(q store.Querier) error {
			var n int
			require.NoError(t, q.QueryRowContext(t.Context(), `SELECT count(*) FROM leases`).Scan(&n))
			require.Zero(t, n)
			return nil
		}))
	})
}

func TestAReaderCannotWrite(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		err := e.Open(t).Read(t.Context(), func(q store.Querier) error {
			return q.QueryRowContext(t.Context(), `DELETE FROM leases RETURNING name`).Scan(new(string))
		})
		require.ErrorContains(t, err, map[string]string{storetest.File: "readonly", storetest.PostgreSQL: "read-only"}[e.Name])
	})
}

func TestASchemaOfANewerReleaseIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		require.NoError(t, e.Open(t).Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, $1)`, true)
			return err
		}))
		_, err := store.Open(t.Context(), e.Options)
		require.ErrorIs(t, err, store.ErrNewerSchema)
		require.ErrorContains(t, err, "version 9999")
	})
}

func TestAFileThatIsNoDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.db")
	require.NoError(t, os.WriteFile(path, []byte("this is not a database, it is a text file of some length"), 0o600))
	_, err := store.Open(t.Context(), store.Options{Path: path})
	require.Error(t, err)
}

func TestACommitIsOnTheDiskWhenWriteReturns(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "ui.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	var level int
	require.NoError(t, db.Write(t.Context(), func(tx store.Tx) error {
		return tx.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&level)
	}))
	require.Equal(t, 2, level, "FULL; NORMAL loses the last commits in a power cut")
}

func TestAnOldFileIsNoLongerReadableByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.db")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	require.NoError(t, os.Chmod(path, 0o644)) // whatever the umask
	db, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}
