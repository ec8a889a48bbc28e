package devnet

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the database driver

	"atcr.io/operator/appview/sqlitedb"
)

//go:embed migrations/*.sql
var migrations embed.FS

func openStore(ctx context.Context, dir string) (*sql.DB, error) {
	path := filepath.Join(dir, "devnet.sqlite")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the database file: %w", err)
	}
	f.Close()
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "foreign_keys(ON)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", sqlitedb.Source(path, q))
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db.SetMaxOpenConns(1)
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the migrations: %w", err), db.Close())
	}
	steps, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the migrations: %w", err), db.Close())
	}
	if _, err := steps.Up(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate the database: %w", err), db.Close())
	}
	return db, nil
}

// secret returns a setting, made once.
func secret(ctx context.Context, db *sql.DB, name string, generate func() (string, error)) (string, error) {
	var value string
	err := db.QueryRowContext(ctx, `SELECT value FROM setting WHERE name = ?`, name).Scan(&value)
	if err == nil {
		return value, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	if value, err = generate(); err != nil {
		return "", fmt.Errorf("make setting %s: %w", name, err)
	}
	if _, err := db.ExecContext(ctx, `INSERT INTO setting (name, value) VALUES (?, ?)`, name, value); err != nil {
		return "", fmt.Errorf("store setting %s: %w", name, err)
	}
	return value, nil
}

// newPassword has the form of the reference PDS's app passwords: xxxx-xxxx-xxxx-xxxx.
func newPassword() string {
	t := []byte(rand.Text())
	for i, c := range t {
		if c >= 'A' && c <= 'Z' {
			t[i] = c + 'a' - 'A'
		}
	}
	return fmt.Sprintf("%s-%s-%s-%s", t[0:4], t[4:8], t[8:12], t[12:16])
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
