package sqlitedb_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/sqlitedb"
)

const (
	insert = "INSERT INTO t (n) VALUES (?)"
	list   = "SELECT n FROM t ORDER BY n"
)

func numbers(t *testing.T, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}) (all []int) {
	t.Helper()
	rows, err := q.QueryContext(t.Context(), list)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var n int
		require.NoError(t, rows.Scan(&n))
		all = append(all, n)
	}
	require.NoError(t, rows.Err())
	return all
}

func TestAKeptStatementSeesNewRowsAndColumns(t *testing.T) {
	db := open(t)
	for n := range 3 {
		_, err := db.Exec(insert, n)
		require.NoError(t, err)
		require.Len(t, numbers(t, db), n+1)
	}
	_, err := db.Exec("ALTER TABLE t ADD COLUMN m DEFAULT 7")
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2}, numbers(t, db))
	rows, err := db.Query("SELECT * FROM t WHERE n = ?", 1)
	require.NoError(t, err)
	columns, err := rows.Columns()
	require.NoError(t, err)
	require.Equal(t, []string{"n", "m"}, columns)
	require.NoError(t, rows.Close())
}

func TestAStatementIsReadTwiceAtOnceAndFailsWithoutHarm(t *testing.T) {
	db := open(t)
	for n := range 3 {
		_, err := db.Exec(insert, n)
		require.NoError(t, err)
	}
	require.NoError(t, sqlitedb.On(t.Context(), db, func(ctx context.Context, c *sql.Conn) error {
		for range 2 {
			outer, err := c.QueryContext(ctx, list)
			require.NoError(t, err)
			for want := 0; outer.Next(); want++ {
				var n int
				require.NoError(t, outer.Scan(&n))
				require.Equal(t, want, n)
				require.Equal(t, []int{0, 1, 2}, numbers(t, c), "while the other is half read")
			}
			require.NoError(t, outer.Err())
			require.NoError(t, outer.Close())
		}
		return nil
	}))
	_, err := db.Exec("CREATE UNIQUE INDEX one ON t (n)")
	require.NoError(t, err)
	for range 2 {
		_, err = db.Exec(insert, 1)
		require.ErrorContains(t, err, "UNIQUE")
	}
	_, err = db.Exec(insert, 3)
	require.NoError(t, err)
	_, err = db.Query("SELECT n FROM nowhere")
	require.ErrorContains(t, err, "nowhere")
	require.Equal(t, []int{0, 1, 2, 3}, numbers(t, db))
}

func TestATransactionHappensWholeOrNot(t *testing.T) {
	db := open(t)
	failed := errors.New("failed")
	put := func(n int, then func() error) error {
		return sqlitedb.On(t.Context(), db, func(ctx context.Context, c *sql.Conn) error {
			return sqlitedb.Transact(ctx, c, sqlitedb.Writing, func() error {
				_, err := c.ExecContext(ctx, insert, n)
				require.NoError(t, err)
				return then()
			})
		})
	}
	require.NoError(t, put(1, func() error { return nil }))
	require.ErrorIs(t, put(2, func() error { return failed }), failed)
	require.PanicsWithError(t, "failed", func() { _ = put(3, func() error { panic(failed) }) })
	require.NoError(t, put(4, func() error { return nil }))
	require.Equal(t, []int{1, 4}, numbers(t, db))

	// The same by database/sql.
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(insert, 5)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback())
	tx, err = db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(insert, 6)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.Equal(t, []int{1, 4, 6}, numbers(t, db))
}

func TestACallerThatLeavesDoesNotWaitForAConnectionAndStopsNoStatement(t *testing.T) {
	db := open(t)
	ctx, leave := context.WithCancel(t.Context())
	require.NoError(t, sqlitedb.On(ctx, db, func(inner context.Context, c *sql.Conn) error {
		leave()
		require.ErrorIs(t, sqlitedb.On(ctx, db, nil), context.Canceled, "this is the only connection")
		return sqlitedb.Transact(inner, c, sqlitedb.Writing, func() error {
			_, err := c.ExecContext(inner, insert, 1)
			return err
		})
	}))
	require.Equal(t, []int{1}, numbers(t, db))
}

func TestReadersAndAWriterWorkSideBySide(t *testing.T) {
	path := "file:" + filepath.Join(t.TempDir(), "x.db") + "?_pragma=journal_mode(wal)&_pragma=busy_timeout(10000)"
	writer, err := sqlitedb.Open(path)
	require.NoError(t, err)
	defer writer.Close()
	writer.SetMaxOpenConns(1)
	_, err = writer.Exec("CREATE TABLE t (n)")
	require.NoError(t, err)
	readers, err := sqlitedb.Open(path)
	require.NoError(t, err)
	defer readers.Close()
	readers.SetMaxOpenConns(4)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for last := 0; last < 50; {
				var n int
				if err := readers.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n < last {
					t.Error(n, last, err)
					return
				}
				last = n
			}
		})
	}
	for n := range 50 {
		_, err := writer.Exec(insert, n)
		require.NoError(t, err)
	}
	wg.Wait()
}
