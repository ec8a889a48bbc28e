package hold

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/storage/filesystem"
	"atcr.io/operator/appview/hold/storage/s3"
)

// openDriver opens the configured storage.
func openDriver(cfg Config, publicURL string) (storage.Driver, error) {
	if cfg.StorageDriver == driverFilesystem {
		key, err := loadURLKey(cfg.urlKeyPath())
		if err != nil {
			return nil, err
		}
		return filesystem.New(filesystem.Options{Root: cfg.StorageRootDir, PublicURL: publicURL, URLKey: key, BlobTTL: cfg.blobTTL()})
	}
	return s3.New(s3.Options{
		Endpoint: cfg.S3Endpoint, Region: cfg.AWSRegion, Bucket: cfg.S3Bucket,
		AccessKey: cfg.AWSAccessKeyID, SecretKey: cfg.AWSSecretAccessKey, Session: cfg.AWSSessionToken,
		Address: s3.Addressing(cfg.S3Addressing), BlobTTL: cfg.blobTTL(),
	})
}

// blobTTL is the life of a blob's URL: shorter where not everybody may have it.
func (c Config) blobTTL() time.Duration {
	if c.Public {
		return 15 * time.Minute
	}
	return 5 * time.Minute
}

// loadURLKey reads the key that signs the filesystem driver's URLs, and makes it the first time. It is kept, so that
// URLs that were handed out live through a restart.
func loadURLKey(path string) ([]byte, error) {
	b, err := secretFile(path, func() (string, error) {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails, see its documentation
		return base64.StdEncoding.EncodeToString(key), nil
	})
	if err != nil {
		return nil, fmt.Errorf("the URL key: %w", err)
	}
	return parseURLKey(path, b)
}

func parseURLKey(path, b string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(b))
	if err != nil || len(key) < 32 {
		return nil, fmt.Errorf("the URL key %s is not base64 of 32 bytes; remove it to have a new one made", path)
	}
	return key, nil
}

// lockDir keeps a second hold from the database directory. The lock ends with the process, however that ends.
func lockDir(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the database directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w %s: stop it first", ErrInUse, dir)
		}
		return nil, fmt.Errorf("lock the database directory: %w", err)
	}
	return f.Close, nil
}
