package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"atcr.io/operator/appview/sqlitedb"
)

// ErrRefused: the database takes neither user, password nor its own name. Trying later may help once they are changed.
var ErrRefused = errors.New("the database refuses the credentials")

// ErrUnavailable: the database cannot be asked now. Trying later may help.
var ErrUnavailable = errors.New("the database cannot be reached")

// ErrFull is an [ErrUnavailable]: there is no room on the disk of the SQLite file. Much can still be read.
var ErrFull = fmt.Errorf("%w: its disk is full; make the volume larger, or delete what else is on it", ErrUnavailable)

// Options say what to open.
type Options struct {
	// URL of a PostgreSQL database, postgres://user:password@host/database; its parameters are those of pgx, with
	// pool_max_conns among them. Empty: SQLite.
	URL string
	// Dir has the same in files, as [names.DatabaseConnection] reads them, again for every new connection: a changed
	// password needs no restart.
	Dir string
	// SSLMode wins over sslmode of the URL; CAFile has the certificates that verify-ca and verify-full trust. The file is
	// read for every new connection with Dir. Empty: as the URL says.
	SSLMode, CAFile string
	// MaxOpen and MaxIdle bound the connections to PostgreSQL; 0: a default, and as many as are open.
	MaxOpen, MaxIdle int
	// Path of the SQLite file, whose directory is made when missing; empty: in memory, gone at Close.
	Path string
	// Exclusive refuses a SQLite file that another process has open so, with [ErrLocked].
	Exclusive bool
	Logger    *slog.Logger
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
	reader *sql.DB       // the writer itself when in memory, and with PostgreSQL
	pool   *pgxpool.Pool // nil: SQLite
	lock   *os.File
	schema int64
	log    *slog.Logger
}

// Open opens or creates the store and brings its schema up to date. An error never holds the password of the URL.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	d := &DB{log: o.Logger}
	open := d.openSQLite
	if o.URL != "" || o.Dir != "" {
		open = d.openPostgres
	}
	err := open(ctx, o)
	if err == nil {
		err = d.migrate(ctx)
	}
	if d.full(err) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Schema is the version of the tables, which opening the store has brought them to.
func (d *DB) Schema() int64 { return d.schema }

// Shared says whether other processes may write to the same database: what one of them remembers may be old.
func (d *DB) Shared() bool { return d.pool != nil }

// Limits of one call, so that a database behind a broken network fails requests instead of collecting them.
const (
	readLimit  = 10 * time.Second
	writeLimit = 30 * time.Second
)

// Read runs fn against a consistent snapshot. fn must not call Write or Read: in memory there is one connection.
func (d *DB) Read(ctx context.Context, fn func(Querier) error) error {
	limited, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	if d.pool == nil {
		return d.classify(ctx, sqlitedb.On(limited, d.reader, func(ctx context.Context, c *sql.Conn) error {
			return sqlitedb.Transact(ctx, c, sqlitedb.ReadOnly, func() error { return fn(bound{c, limited, true}) })
		}))
	}
	tx, err := d.reader.BeginTx(limited, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return d.classify(ctx, fmt.Errorf("reading the store: %w", err))
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	return d.classify(ctx, fn(bound{tx, limited, false}))
}

// ReadOne is Read for an fn with one statement, or several that need not see the same moment: it saves a PostgreSQL
// two round trips.
func (d *DB) ReadOne(ctx context.Context, fn func(Querier) error) error {
	limited, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	if d.pool == nil {
		return d.classify(ctx, sqlitedb.On(limited, d.reader, func(_ context.Context, c *sql.Conn) error { return fn(bound{c, limited, true}) }))
	}
	return d.classify(ctx, fn(bound{d.reader, limited, false}))
}

// writeTries bounds the attempts of one Write that PostgreSQL rolled back for the sake of another.
const writeTries = 6

// Write runs fn in one transaction: all of it happens, durably, or none. With SQLite writes happen one after the other,
// so fn does no network calls. With PostgreSQL they run side by side, each statement seeing what was committed before
// it (READ COMMITTED), and fn runs again when PostgreSQL could not serialize it or broke a deadlock: fn must not rely
// on what an earlier run left in its variables. See [DB.WriteAlone].
func (d *DB) Write(ctx context.Context, fn func(Tx) error) error {
	return d.retried(ctx, func(ctx context.Context) error {
		if d.pool != nil {
			return transact(ctx, d.writer, d.log, fn)
		}
		return sqlitedb.On(ctx, d.writer, writing(ctx, fn))
	})
}

// writing is fn in a transaction of SQLite.
func writing(limited context.Context, fn func(Tx) error) func(context.Context, *sql.Conn) error {
	return func(ctx context.Context, c *sql.Conn) error {
		return sqlitedb.Transact(ctx, c, sqlitedb.Writing, func() error { return fn(boundTx{bound{c, limited, true}, c}) })
	}
}

// WriteSoon is Write for what a power cut may take back, though the end of this process may not: with SQLite it does not
// wait for the disk, see [sqlitedb.Soon]. A PostgreSQL may end, or hand over to another, while its clients go on, and
// what it said would be gone: it is waited for.
func (d *DB) WriteSoon(ctx context.Context, fn func(Tx) error) error {
	if d.pool != nil || d.reader == d.writer { // the latter in memory
		return d.Write(ctx, fn)
	}
	return d.retried(ctx, func(ctx context.Context) error {
		return sqlitedb.Soon(ctx, d.writer, writing(ctx, fn))
	})
}

// retried runs one attempt of a write after another, until it does not fail because of others.
func (d *DB) retried(ctx context.Context, once func(context.Context) error) error {
	var err error
	for try := range writeTries {
		if try > 0 {
			if e := pause(ctx, try); e != nil {
				return errors.Join(err, e)
			}
		}
		limited, cancel := context.WithTimeout(ctx, writeLimit)
		err = once(limited)
		cancel()
		if !isContention(err) {
			return d.classify(ctx, err)
		}
	}
	return fmt.Errorf("writing the store: %w: other writes kept getting in the way: %w", ErrUnavailable, err)
}

// WriteAlone is Write, but of all the writes with one name, in all processes, one runs at a time: what fn reads of the
// rows that only such writes change is still so when it commits.
func (d *DB) WriteAlone(ctx context.Context, name string, fn func(Tx) error) error {
	if d.pool == nil {
		return d.Write(ctx, fn)
	}
	return d.Write(ctx, func(tx Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, name); err != nil {
			return fmt.Errorf("writing the store: %w", err)
		}
		return fn(tx)
	})
}

// transact runs fn in a transaction of PostgreSQL.
func transact(ctx context.Context, db *sql.DB, log *slog.Logger, fn func(Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("writing the store: %w", err)
	}
	if err := fn(boundTx{bound{tx, ctx, false}, tx}); err != nil {
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && !errors.Is(rerr, driver.ErrBadConn) {
			log.DebugContext(ctx, "rolling back", "error", rerr)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("writing the store: %w", err)
	}
	return nil
}

// pause before another try, longer each time and never the same for two that met.
func pause(ctx context.Context, try int) error {
	most := time.Duration(5<<try) * time.Millisecond
	t := time.NewTimer(most/2 + time.Duration(rand.Int64N(int64(most))))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// bound puts every statement under the limit of its Read or Write.
type bound struct {
	q     Querier
	ctx   context.Context
	whole bool // a statement that has begun runs to its end, see package sqlitedb: none begins after the limit
}

func (b bound) context() context.Context {
	if b.whole && b.ctx.Err() == nil {
		return context.WithoutCancel(b.ctx)
	}
	return b.ctx
}

func (b bound) QueryContext(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	return b.q.QueryContext(b.context(), query, args...)
}

func (b bound) QueryRowContext(_ context.Context, query string, args ...any) *sql.Row {
	return b.q.QueryRowContext(b.context(), query, args...)
}

type boundTx struct {
	bound
	tx Tx
}

func (b boundTx) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	return b.tx.ExecContext(b.context(), query, args...)
}

// classify makes an [ErrUnavailable] of a failure that is not the statement's fault. ctx is the caller's: when it has
// ended, that is the reason, whatever the driver makes of it.
func (d *DB) classify(ctx context.Context, err error) error {
	unavailable := sqliteUnavailable
	if d.pool != nil {
		unavailable = postgresUnavailable
	}
	switch {
	case err == nil, errors.Is(err, sql.ErrNoRows), errors.Is(err, ErrUnavailable):
		return err
	case !ended(err) && !unavailable(err):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	case d.full(err):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// full says whether an error is of our own disk: that of a PostgreSQL is its own affair.
func (d *DB) full(err error) bool { return d.pool == nil && sqlitedb.DiskFull(err) }

// ended says whether a statement or a transaction was cut off: by our limit, or because its connection or the pool has
// ended. database/sql says so in its own words once it has rolled back.
func ended(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, sql.ErrTxDone) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn)
}

// Ping says whether the store answers, within two seconds.
func (d *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return d.ReadOne(ctx, func(q Querier) error {
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
	if d.writer != nil {
		errs = append(errs, d.writer.Close())
	}
	if d.pool != nil {
		d.pool.Close()
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}
