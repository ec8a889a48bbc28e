package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"atcr.io/operator/appview/sqlitedb"
)

// openSQLite opens the file, or a database in memory.
func (d *DB) openSQLite(ctx context.Context, o Options) (err error) {
	if o.Path == "" {
		// One connection, since each would have a database of its own.
		if d.writer, err = open("file::memory:", false, 1); err != nil {
			return err
		}
		d.reader = d.writer
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return fmt.Errorf("making the directory of the database: %w", err)
	}
	if o.Exclusive {
		if d.lock, err = lockFile(ctx, o.Path+".lock", lockWait, d.log); err != nil {
			return fmt.Errorf("opening the database %s: %w", o.Path, err)
		}
	}
	if err := restrict(o.Path); err != nil {
		return err
	}
	if d.writer, err = open(o.Path, false, 1); err != nil {
		return err
	}
	d.reader, err = open(o.Path, true, max(4, runtime.GOMAXPROCS(0)*2))
	return err
}

// sqliteUnavailable says whether an error of SQLite is one of the machine, which may pass: another program locks the
// file, the disk is full or fails, memory is short, or the statement was interrupted at its limit.
func sqliteUnavailable(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return false
}

// restrict makes the file, or an old one, readable by its owner only: it holds sessions, though sealed.
func restrict(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the database %s: %w; is its directory writable?", path, err)
	}
	// On a volume that another user wrote before, its group lets us in and the mode is not ours to change.
	if err := f.Chmod(0o600); err != nil && !errors.Is(err, fs.ErrPermission) {
		return errors.Join(fmt.Errorf("restricting the database %s to its owner: %w", path, err), f.Close())
	}
	return f.Close()
}

func open(path string, readOnly bool, conns int) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)", "temp_store(2)"}}
	if readOnly {
		q.Add("_pragma", "query_only(1)")
	} else {
		q.Add("_pragma", "journal_mode(wal)")
		// NORMAL would lose the last commits in a power cut: a refresh token that the PDS has already replaced, a
		// notification that was promised to a hold.
		q.Add("_pragma", "synchronous(full)")
	}
	name := path
	if path[:min(5, len(path))] != "file:" {
		name = "file:" + (&url.URL{Path: path}).EscapedPath()
	}
	db, err := sqlitedb.Open(name + "?" + q.Encode())
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxLifetime(0)
	if err := db.Ping(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database %s: %w", path, err), db.Close())
	}
	return db, nil
}
