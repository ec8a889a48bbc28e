// Package sqlitesoon commits to SQLite without waiting for the disk, on a handle whose other commits wait.
//
// Such a commit is seen by every reader at once and survives the end of the process. A power cut may take back the last
// ones, and only those: the log is synced whole by the next commit that waits. It is for rows about bytes that are not
// on disk either, such as uploads in progress.
package sqlitesoon

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// Do runs f on a connection of db, a file in WAL mode with synchronous=FULL, that does not wait for the disk meanwhile.
func Do(ctx context.Context, db *sql.DB, f func(*sql.Conn) error) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back, and fails when it was thrown away
	// With NORMAL only checkpoints sync, see https://www.sqlite.org/pragma.html#pragma_synchronous.
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous=NORMAL"); err != nil {
		throwAway(conn)
		return err
	}
	// A connection on which this fails, because f left a transaction open say, must not make promises.
	defer func() {
		if _, e := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous=FULL"); e != nil {
			throwAway(conn)
			err = errors.Join(err, e)
		}
	}()
	return f(conn)
}

func throwAway(conn *sql.Conn) { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }
