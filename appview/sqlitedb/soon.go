package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
)

// Soon is [On] for commits that do not wait for the disk, on a handle whose other commits wait: a file in WAL mode with
// synchronous=FULL. Such a commit is seen by every reader at once and survives the end of the process. A power cut may
// take back the last ones, and only those: the log is synced whole by the next commit that waits. It is for rows about
// bytes that are not on disk either, such as uploads in progress.
func Soon(ctx context.Context, db *sql.DB, f func(context.Context, *sql.Conn) error) error {
	return On(ctx, db, func(ctx context.Context, c *sql.Conn) (err error) {
		// With NORMAL only checkpoints sync, see https://www.sqlite.org/pragma.html#pragma_synchronous.
		if _, err := c.ExecContext(ctx, "PRAGMA synchronous=NORMAL"); err != nil {
			ThrowAway(c)
			return err
		}
		// A connection on which this fails, because f left a transaction open say, must not make promises.
		defer func() {
			if _, e := c.ExecContext(ctx, "PRAGMA synchronous=FULL"); e != nil {
				ThrowAway(c)
				err = errors.Join(err, e)
			}
		}()
		return f(ctx, c)
	})
}
