package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Lock takes the lock that a server holds on the SQLite file whose lock file is at path: the file's name and ".lock". It
// fails with [ErrLocked] when another process has it. Closing the file gives it back.
func Lock(ctx context.Context, path string) (*os.File, error) {
	return lockFile(ctx, path, 0, slog.Default())
}

// Copy writes the SQLite database at from, which a server may be using, to a new file: one moment of it, compact and
// without a log. It is not durable yet.
func Copy(ctx context.Context, from, to string) (err error) {
	if _, err := os.Stat(from); err != nil {
		return err // open would make an empty one
	}
	db, err := open(from, true, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// query_only would forbid the copy too. There is one connection, and nothing else is asked of it.
	if _, err = db.ExecContext(ctx, `PRAGMA query_only = 0`); err == nil {
		_, err = db.ExecContext(ctx, `VACUUM INTO ?`, to)
	}
	return err
}

// Check reads every page of the SQLite database at path, which nobody uses, and returns the version of its schema. It
// fails with [ErrNewerSchema] when this release does not know that.
func Check(ctx context.Context, path string) (version int64, err error) {
	if _, err := os.Stat(path); err != nil {
		return 0, err
	}
	db, err := open(path, true, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var found string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&found); err != nil {
		return 0, fmt.Errorf("%s is no database, or damaged: %w", path, err)
	}
	if found != "ok" {
		return 0, fmt.Errorf("%s is damaged: %s", path, found)
	}
	return schema(ctx, db, path)
}

// schema is the version of a database's schema, which this release must know.
func schema(ctx context.Context, db *sql.DB, path string) (version int64, err error) {
	versions, err := database.NewStore(database.DialectSQLite3, goose.DefaultTablename)
	if err != nil {
		return 0, err
	}
	if version, err = versions.GetLatestVersion(ctx, db); err != nil {
		return 0, fmt.Errorf("%s is no database of an AppView: %w", path, err)
	}
	_, err = CheckSchema(version)
	return version, err
}
