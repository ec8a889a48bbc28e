// Package ledger is what a hold remembers of its blobs besides their bytes: who may read them, which uploads are in
// progress, and which layer records it wrote. One SQLite file; every write is durable when its method returns.
package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/pressly/goose/v3"

	"atcr.io/operator/appview/sqlitedb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNotFound is the answer when there is no such row.
var ErrNotFound = errors.New("not found")

// Ledger is safe for concurrent use. One process may have it open.
type Ledger struct {
	write *sql.DB // one connection: SQLite has one writer
	read  *sql.DB
	noted *lru.Cache[string, time.Time] // when progress of an upload was noted last, at the earliest
}

// Open opens or makes the file and brings its schema up to date.
func Open(ctx context.Context, path string) (*Ledger, error) {
	// SQLite makes files readable for all: who pushed what is nobody's business.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	f.Close()
	noted, _ := lru.New[string, time.Time](10_000)
	l := &Ledger{noted: noted}
	if l.write, err = open(path, 1, "journal_mode(WAL)", "synchronous(FULL)"); err != nil {
		return nil, err
	}
	if err := migrate(ctx, l.write); err != nil {
		return nil, errors.Join(err, l.write.Close())
	}
	if l.read, err = open(path, 4, "query_only(1)"); err != nil {
		return nil, errors.Join(err, l.write.Close())
	}
	return l, nil
}

func open(path string, conns int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	db, err := sqlitedb.Open(sqlitedb.Source(path, q))
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return fmt.Errorf("migrate ledger: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate ledger: %w", err)
	}
	return nil
}

// Close closes the file.
func (l *Ledger) Close() error { return errors.Join(l.read.Close(), l.write.Close()) }

// Ping fails when the file cannot be read.
func (l *Ledger) Ping(ctx context.Context) error {
	var n int
	if err := l.read.QueryRowContext(ctx, `SELECT count(*) FROM goose_db_version`).Scan(&n); err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	return nil
}

// one reads the only row of a query that is asked for in every push or pull; see package sqlitedb.
func one(ctx context.Context, db *sql.DB, query string, args ...any) func(into ...any) error {
	return func(into ...any) error {
		return sqlitedb.On(ctx, db, func(ctx context.Context, c *sql.Conn) error {
			return c.QueryRowContext(ctx, query, args...).Scan(into...)
		})
	}
}

func millis(t time.Time) int64 { return t.UnixMilli() }

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
