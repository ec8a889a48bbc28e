package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/sqlite/*.sql
var migrations embed.FS

// ErrNewerSchema: the database was written by a newer release.
var ErrNewerSchema = errors.New("the database has a newer schema")

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	sources := p.ListSources()
	known := sources[len(sources)-1].Version
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema version of the database: %w", err)
	}
	if have > known {
		return fmt.Errorf("%w: version %d, this release knows %d; run the newer release or restore a backup", ErrNewerSchema, have, known)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bringing the database from schema %d to %d: %w", have, known, err)
	}
	return nil
}
