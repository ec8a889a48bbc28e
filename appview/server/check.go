package server

import (
	"context"
	"errors"
	"log/slog"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/store"
)

// Check says all that would keep [New] from opening a server, as far as its files tell. It makes and changes nothing, and
// asks nobody over the network. The key set is nil when its key would be made.
func Check(ctx context.Context, cfg *config.Config) (*auth.KeySet, *config.Snapshot, error) {
	keys, err := auth.CheckKeys(keyFiles(cfg))
	errs := []error{err, cfg.CheckSealingKey(), store.CheckOpen(ctx, storeOptions(cfg))}
	var now *config.Snapshot
	runtime, err := config.OpenRuntime(cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		now = runtime.Current()
	}
	errs = append(errs, err)
	if cfg.TLSCertPath != "" {
		_, err := openCertificate(cfg.TLSCertPath, cfg.TLSKeyPath, nil)
		errs = append(errs, err)
	}
	_, err = auth.ReadClientKeys(cfg.OAuthKeyPath)
	errs = append(errs, err)
	named, err := cfg.CheckDIDKey()
	if err == nil && named {
		_, err = ownDID(cfg)
	}
	return keys, now, errors.Join(append(errs, err)...)
}
