package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

func TestWhatIsNotTheStatementsFaultIsUnavailable(t *testing.T) {
	embedded, shared := &DB{}, &DB{pool: new(pgxpool.Pool)}
	const pass, ours = true, false
	for _, c := range []struct {
		what        string
		db          *DB
		err         error
		unavailable bool
	}{
		{"our limit", embedded, context.DeadlineExceeded, pass},
		{"our limit", shared, context.DeadlineExceeded, pass},
		{"a transaction that was rolled back at its limit", embedded, sql.ErrTxDone, pass},
		{"a transaction that was rolled back at its limit", shared, sql.ErrTxDone, pass},
		{"a connection that was closed", embedded, sql.ErrConnDone, pass},
		{"a connection that was closed", shared, sql.ErrConnDone, pass},
		{"a connection that was thrown away", embedded, driver.ErrBadConn, pass},
		{"a connection that was thrown away", shared, driver.ErrBadConn, pass},
		{"somebody else's context", embedded, context.Canceled, pass},
		{"no connection", shared, &pgconn.ConnectError{Config: &pgconn.Config{}}, pass},
		{"a connection that is reset", shared, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, pass},
		{"a connection that ends", shared, io.ErrUnexpectedEOF, pass},
		{"a connection that ends", shared, io.EOF, pass},
		{"a connection that we closed", shared, net.ErrClosed, pass},
		{"a connection that pgx closed", shared, pgconn.ErrConnClosed, pass},
		{"connection_failure", shared, &pgconn.PgError{Code: "08006"}, pass},
		{"too_many_connections", shared, &pgconn.PgError{Code: "53300"}, pass},
		{"disk_full", shared, &pgconn.PgError{Code: "53100"}, pass},
		{"admin_shutdown", shared, &pgconn.PgError{Code: "57P01"}, pass},
		{"cannot_connect_now", shared, &pgconn.PgError{Code: "57P03"}, pass},
		{"io_error", shared, &pgconn.PgError{Code: "58030"}, pass},
		{"read_only_sql_transaction", shared, &pgconn.PgError{Code: "25006"}, pass},
		{"invalid_password", shared, &pgconn.PgError{Code: "28P01"}, pass},
		{"unique_violation", shared, &pgconn.PgError{Code: "23505"}, ours},
		{"undefined_table", shared, &pgconn.PgError{Code: "42P01"}, ours},
		{"no rows", embedded, sql.ErrNoRows, ours},
		{"a mistake", embedded, errors.New("a mistake"), ours},
		{"a mistake", shared, errors.New("a mistake"), ours},
	} {
		err := c.db.classify(t.Context(), fmt.Errorf("reading: %w", c.err))
		require.Equal(t, c.unavailable, errors.Is(err, ErrUnavailable), c.what)
		require.ErrorIs(t, err, c.err, c.what)
	}
	require.NoError(t, embedded.classify(t.Context(), nil))
}

// A caller that has given up is told so and nothing else, whatever the driver says of it.
func TestACallerThatGaveUpHearsOfThat(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, db := range []*DB{{}, {pool: new(pgxpool.Pool)}} {
		for _, err := range []error{context.Canceled, sql.ErrTxDone, driver.ErrBadConn} {
			got := db.classify(gone, err)
			require.ErrorIs(t, got, context.Canceled)
			require.NotErrorIs(t, got, ErrUnavailable)
		}
	}
}

// The errors of SQLite itself, each as SQLite makes it.
func TestWhatSQLiteSaysOfTheMachineIsUnavailable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := Open(t.Context(), Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	exec := func(ctx context.Context, statement string) error {
		return db.Write(ctx, func(tx Tx) error { _, err := tx.ExecContext(ctx, statement); return err })
	}

	other, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(0)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	locked := db.Write(t.Context(), func(tx Tx) error {
		_, err := tx.ExecContext(t.Context(), `DELETE FROM leases`)
		require.NoError(t, err)
		_, err = other.ExecContext(t.Context(), `DELETE FROM leases`)
		return err
	})
	require.ErrorIs(t, locked, ErrUnavailable, "another program has the lock")

	require.NoError(t, exec(t.Context(), `CREATE TABLE t (n INTEGER PRIMARY KEY)`))
	require.NoError(t, exec(t.Context(), `INSERT INTO t VALUES (1)`))
	require.NotErrorIs(t, exec(t.Context(), `INSERT INTO t VALUES (1)`), ErrUnavailable, "a constraint is the statement's fault")
	var e *sqlite.Error
	require.ErrorAs(t, exec(t.Context(), `SELECT nothing`), &e)
	require.Equal(t, sqlite3.SQLITE_ERROR, e.Code()&0xff)

	limited, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	const endless = `WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) INSERT INTO t SELECT n FROM r WHERE n < 0`
	err = db.Write(t.Context(), func(tx Tx) error {
		_, err := tx.(boundTx).tx.ExecContext(limited, endless)
		return err
	})
	require.ErrorIs(t, err, ErrUnavailable, "cut off at a limit that is not the caller's")
	left, leave := context.WithCancel(t.Context())
	err = db.Write(left, func(tx Tx) error {
		leave() // a caller that is gone: no further statement begins
		_, err := tx.ExecContext(left, `INSERT INTO t VALUES (3)`)
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrUnavailable)
	require.NoError(t, exec(t.Context(), `INSERT INTO t VALUES (2)`), "and the connection is as good as before")
}
