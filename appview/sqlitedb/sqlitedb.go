// Package sqlitedb runs the statements of a server on SQLite for little more than what SQLite itself takes.
//
// Most of them find or change a few rows by a key, which takes microseconds. Two things would cost more than that:
//
//   - compiling the statement: a connection keeps what it has compiled (conn.go), as pgx does for PostgreSQL
//   - watching for the end of a context: the driver and database/sql start a goroutine each, and wake a thread for it.
//     A statement here runs to its end; what the context bounds is the wait for a connection, see [On], and in package
//     store whether another statement begins
//
// header.go says whether a file is a database before anything opens it; unchanged.go looks into one and changes none of its
// files.
package sqlitedb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// DiskFull says whether an error comes of a disk without room, or of a database on one.
func DiskFull(err error) bool {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return true
	}
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_FULL ||
		e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE) // that file needs room even to read the database
}

// Source is what Open takes for the file at path, with parameters of the driver.
func Source(path string, q url.Values) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// Open is sql.Open for the driver "sqlite". Transactions take the writer's lock when they begin, unless they are
// read-only: then none fails half-way because another has written.
func Open(dsn string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c}), nil
}

// On runs f on a connection of db, for which it waits as long as ctx lasts. The context of f has no end.
func On(ctx context.Context, db *sql.DB, f func(context.Context, *sql.Conn) error) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // gives it back, and fails when it was thrown away
	return f(context.WithoutCancel(ctx), c)
}

// Kinds of transactions.
const (
	ReadOnly = "BEGIN"
	Writing  = "BEGIN IMMEDIATE"
)

// Transact runs f in a transaction on the connection: all that it does happens, or nothing. ctx should have no end.
func Transact(ctx context.Context, c *sql.Conn, kind string, f func() error) (err error) {
	if _, err := c.ExecContext(ctx, kind); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	open := true
	defer func() { // also when f panics
		if !open {
			return
		}
		if _, e := c.ExecContext(ctx, "ROLLBACK"); e != nil { // a full disk, say, has rolled back already
			ThrowAway(c)
		}
	}()
	if err := f(); err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	open = false
	return nil
}

// ThrowAway makes the pool close a connection whose state is not known, once it is given back.
func ThrowAway(c *sql.Conn) { _ = c.Raw(func(any) error { return driver.ErrBadConn }) }
