package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store/seal"
)

// CheckSealingKey loads the sealing key as SealingKey does, but makes nothing.
func (c *Config) CheckSealingKey() error {
	if _, err := os.Stat(c.SealingKeyPath); errors.Is(err, fs.ErrNotExist) && !c.AuthKeyRequired {
		return files.CheckCreatable(names.SealingKeyPath, c.SealingKeyPath)
	}
	only := *c
	only.AuthKeyRequired = true
	_, err := only.SealingKey()
	return err
}

// SealingKey loads the key that seals stored sessions, and makes it when it is missing, unless
// ATCR_AUTH_KEY_REQUIRED forbids that. Of several processes that start at once, all end with the same key.
func (c *Config) SealingKey() (seal.Key, error) {
	_, err := os.Stat(c.SealingKeyPath)
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return seal.Key{}, fmt.Errorf("reading the sealing key (%s): %w", names.SealingKeyPath, err)
	case c.AuthKeyRequired:
		return seal.Key{}, fmt.Errorf("%s=%s does not exist and %s=true forbids making one; mount the key there", names.SealingKeyPath, c.SealingKeyPath, names.AuthKeyRequired)
	default:
		_, file := seal.Generate()
		if err := files.CreateOnce(c.SealingKeyPath, file, 0o600); err != nil {
			return seal.Key{}, fmt.Errorf("making the sealing key (%s): %w", names.SealingKeyPath, err)
		}
	}
	b, err := os.ReadFile(c.SealingKeyPath)
	if err != nil {
		return seal.Key{}, fmt.Errorf("reading the sealing key (%s): %w", names.SealingKeyPath, err)
	}
	k, err := seal.Parse(b)
	if err != nil {
		return seal.Key{}, fmt.Errorf("%s=%s: %w", names.SealingKeyPath, c.SealingKeyPath, err)
	}
	return k, nil
}
