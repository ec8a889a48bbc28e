package sqlitedb_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/sqlitedb"
)

func open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sqlitedb.Open("file:" + filepath.Join(t.TempDir(), "x.db") + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1)
	_, err = db.Exec("CREATE TABLE t (n)")
	require.NoError(t, err)
	return db
}

// level is 2 when commits wait for the disk, 1 when they do not.
func level(t *testing.T, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (n int) {
	t.Helper()
	require.NoError(t, q.QueryRowContext(context.WithoutCancel(t.Context()), "PRAGMA synchronous").Scan(&n))
	return n
}

func TestOnlyTheCommitsThatAskForItDoNotWaitForTheDisk(t *testing.T) {
	db := open(t)
	require.Equal(t, 2, level(t, db))
	failed := errors.New("failed")
	for _, want := range []error{nil, failed} {
		require.ErrorIs(t, sqlitedb.Soon(t.Context(), db, func(_ context.Context, c *sql.Conn) error {
			require.Equal(t, 1, level(t, c))
			_, err := c.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
			require.NoError(t, err)
			return want
		}), want)
		require.Equal(t, 2, level(t, db))
	}
	var n int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 2, n)
}

func TestACallerThatGoesAwayOrLeavesATransactionOpenChangesNoLaterCommit(t *testing.T) {
	db := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, sqlitedb.Soon(ctx, db, func(context.Context, *sql.Conn) error { cancel(); return nil }))
	require.Equal(t, 2, level(t, db))

	require.Error(t, sqlitedb.Soon(t.Context(), db, func(_ context.Context, c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), "BEGIN IMMEDIATE")
		require.NoError(t, err)
		_, err = c.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
		require.NoError(t, err)
		return nil
	}))
	require.Equal(t, 2, level(t, db))
	var n int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM t").Scan(&n))
	require.Zero(t, n)

	require.Panics(t, func() { _ = sqlitedb.Soon(t.Context(), db, func(context.Context, *sql.Conn) error { panic("f") }) })
	require.Equal(t, 2, level(t, db))
}
