package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pressly/goose/v3"

	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/sqlitedb"
)

// CheckOpen says what would keep [Open] from opening a store, as far as its files tell: it makes and changes nothing,
// connects to no PostgreSQL, and takes no lock from a server that is running.
func CheckOpen(ctx context.Context, o Options) (err error) {
	switch {
	case o.URL != "" || o.Dir != "":
		_, err = o.postgres()
	case o.Path != "":
		if err = checkFile(ctx, o.Path); err != nil {
			err = fmt.Errorf("%s=%s: %w", names.UIDatabasePath, o.Path, err)
		}
	}
	return err
}

func checkFile(ctx context.Context, path string) (err error) {
	if err := files.CheckWritable(filepath.Dir(path)); err != nil {
		return err
	}
	written, err := sqlitedb.Written(path)
	if err != nil || !written {
		return err
	}
	db, err := sqlitedb.OpenUnchanged(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var begun bool
	if err := db.QueryRowContext(ctx, `SELECT count(*) > 0 FROM sqlite_master WHERE name = $1`, goose.DefaultTablename).Scan(&begun); err != nil || !begun {
		return err
	}
	_, err = schema(ctx, db, path)
	return err
}
