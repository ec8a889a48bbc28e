package hold

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/pds"
	"atcr.io/operator/appview/sqlitedb"
)

// Check says all that would keep [New] from opening a hold on a configuration that is valid, as far as its files tell. It
// makes and changes nothing, asks nobody over the network, and takes nothing from a hold that is running.
func Check(ctx context.Context, cfg Config) error {
	errs := []error{files.CheckCreatable(names.HoldKeyPath, cfg.keyPath()), checkDir(names.HoldDatabaseDir, cfg.DatabaseDir)}
	if _, err := readKey("key", cfg.keyPath()); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	if cfg.StorageDriver == driverFilesystem {
		errs = append(errs, checkDir(names.StorageRootDir, cfg.StorageRootDir), cfg.checkURLKey())
	} else {
		_, err := openDriver(cfg, cfg.PublicURL)
		errs = append(errs, err)
	}
	_, err := sqlitedb.Written(cfg.ledgerPath())
	return errors.Join(append(errs, err, cfg.checkIdentity(ctx))...)
}

// checkIdentity says whether the database directory is this hold's.
func (c Config) checkIdentity(ctx context.Context) error {
	repos, err := pds.Hosted(ctx, c.pdsDir())
	if err != nil {
		return fmt.Errorf("the embedded PDS: %w", err)
	}
	var repo syntax.DID
	if len(repos) > 0 {
		repo = repos[0]
	}
	recorded, err := c.boundTo(repo)
	if err != nil {
		return err
	}
	u, err := publicURL(c.PublicURL)
	if err != nil {
		return err
	}
	_, err = c.identity(didOf(u), recorded)
	return err
}

func (c Config) checkURLKey() error {
	b, err := os.ReadFile(c.urlKeyPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = parseURLKey(c.urlKeyPath(), string(b))
	}
	return err
}

func checkDir(name, dir string) error {
	if err := files.CheckWritable(dir); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
