package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// ErrNewerSchema: the database was written by a newer release.
var ErrNewerSchema = errors.New("the database has a newer schema")

// NewerSchema is an [ErrNewerSchema] with the versions.
type NewerSchema struct{ Have, Known int64 }

// Error names the remedy.
func (e *NewerSchema) Error() string {
	return fmt.Sprintf("%v: version %d, this release knows %d; run the newer release or restore a backup", ErrNewerSchema, e.Have, e.Known)
}

// Unwrap makes errors.Is find ErrNewerSchema.
func (*NewerSchema) Unwrap() error { return ErrNewerSchema }

const sqliteMigrations = "migrations/sqlite"

// migrationLock is the advisory lock under which replicas that start together migrate one after the other.
const migrationLock = 0x61746372 // "atcr"

func (d *DB) migrate(ctx context.Context) error {
	dialect, folder := goose.DialectSQLite3, sqliteMigrations
	if d.pool != nil {
		dialect, folder = goose.DialectPostgres, "migrations/postgres"
		unlock, err := d.lockMigrations(ctx)
		if err != nil {
			return fmt.Errorf("waiting for another replica to migrate: %w", err)
		}
		defer unlock()
	}
	dir, err := fs.Sub(migrations, folder)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(dialect, d.writer, dir)
	if err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	known, err := newest(folder)
	if err != nil {
		return err
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema version of the database: %w", err)
	}
	if have > known {
		return &NewerSchema{have, known}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bringing the database from schema %d to %d: %w", have, known, err)
	}
	d.schema = known
	return nil
}

// CheckSchema fails with a [NewerSchema] when this release does not know a version of the SQLite schema. The version of the
// newest that it knows is returned in any case.
func CheckSchema(have int64) (known int64, err error) {
	if known, err = newest(sqliteMigrations); err == nil && have > known {
		err = &NewerSchema{have, known}
	}
	return known, err
}

// newest is the version that the migrations in a folder lead to.
func newest(folder string) (version int64, err error) {
	files, err := fs.Glob(migrations, folder+"/*.sql")
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		v, err := goose.NumericComponent(f)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		version = max(version, v)
	}
	return version, nil
}

// lockMigrations holds the lock on a connection of its own, so that it ends with this process, however that ends. goose
// has such a lock too, but makes its version table before it takes it.
func (d *DB) lockMigrations(ctx context.Context) (unlock func(), err error) {
	conn, err := d.writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() {
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrationLock)); err != nil {
			d.log.WarnContext(ctx, "giving back the lock of migrations; it ends with its connection", "error", err)
		}
		if err := conn.Close(); err != nil {
			d.log.WarnContext(ctx, "closing the connection of migrations", "error", err)
		}
	}, nil
}
