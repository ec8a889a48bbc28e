package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Options say what to open.
type Options struct {
	Path   string // of the SQLite file, whose directory is made when missing; empty: in memory, gone at Close
	Logger *slog.Logger
}

// Querier reads.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Tx reads and writes; it ends when the function that was given it returns.
type Tx interface {
	Querier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// DB is an open store. It is safe for concurrent use.
type DB struct {
	writer *sql.DB
	reader *sql.DB // the writer itself when in memory
	log    *slog.Logger
}

// Open opens or creates the store and brings its schema up to date.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	d := &DB{log: o.Logger}
	var err error
	if o.Path == "" {
		// One connection, since each would have a database of its own.
		if d.writer, err = open("file::memory:", false, 1); err != nil {
			return nil, err
		}
		d.reader = d.writer
	} else {
		if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
			return nil, fmt.Errorf("making the directory of the database: %w", err)
		}
		if err := restrict(o.Path); err != nil {
			return nil, err
		}
		if d.writer, err = open(o.Path, false, 1); err != nil {
			return nil, err
		}
		if d.reader, err = open(o.Path, true, max(4, runtime.GOMAXPROCS(0)*2)); err != nil {
			return nil, errors.Join(err, d.writer.Close())
		}
	}
	if err := migrate(ctx, d.writer); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
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
		// A write transaction takes its lock at the start, so it never fails half-way because another process wrote.
		q.Set("_txlock", "immediate")
		q.Add("_pragma", "journal_mode(wal)")
		// NORMAL would lose the last commits in a power cut: a refresh token that the PDS has already replaced, a
		// notification that was promised to a hold.
		q.Add("_pragma", "synchronous(full)")
	}
	name := path
	if path[:min(5, len(path))] != "file:" {
		name = "file:" + (&url.URL{Path: path}).EscapedPath()
	}
	db, err := sql.Open("sqlite", name+"?"+q.Encode())
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

// Read runs fn against a consistent snapshot. fn must not call Write or Read: in memory there is one connection.
func (d *DB) Read(ctx context.Context, fn func(Querier) error) error {
	tx, err := d.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	return fn(tx)
}

// Write runs fn in one transaction: all of it happens, durably, or none. Writes happen one after the other, so fn
// does no network calls.
func (d *DB) Write(ctx context.Context, fn func(Tx) error) error {
	tx, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("writing the store: %w", err)
	}
	if err := fn(tx); err != nil {
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) {
			d.log.ErrorContext(ctx, "rolling back", "error", rerr)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("writing the store: %w", err)
	}
	return nil
}

// Ping says whether the store answers, within two seconds.
func (d *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return d.Read(ctx, func(q Querier) error {
		var one int
		return q.QueryRowContext(ctx, `SELECT 1`).Scan(&one)
	})
}

// Close waits for what runs.
func (d *DB) Close() error {
	var errs []error
	if d.reader != nil && d.reader != d.writer {
		errs = append(errs, d.reader.Close())
	}
	return errors.Join(append(errs, d.writer.Close())...)
}
