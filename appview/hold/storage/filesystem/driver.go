// Package filesystem is the storage driver for one machine: blobs and parts are files below one root.
//
// Layout: uploads/<id>/<part number> while an upload lasts, blobs/<algorithm>/<2 hex>/<hex>/data after it. A part
// arrives under a temporary name and is renamed when it is whole; a blob is verified, synced and renamed into place.
// So a crash at any moment leaves either nothing or the whole. The parts stay until Abort, one that became the blob as
// another name of the same file.
//
// A part is hashed while it is written: an upload of one part, as most clients make, completes by fsync, link and rename.
// A blob that comes whole, of no upload, arrives under a temporary name in uploads/ and is renamed from there. Such names that
// a killed process left go when the root is opened.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/storage"
)

// Options of a Driver.
type Options struct {
	Root      string           // folder of the blobs; made when missing
	PublicURL string           // base of the URLs that the driver hands out, scheme://host[:port]
	URLKey    []byte           // HMAC key of those URLs, at least 32 bytes
	PartTTL   time.Duration    // life of a part's URL; 1 h when zero
	BlobTTL   time.Duration    // life of a blob's URL; 15 min when zero
	Idle      time.Duration    // how long a client may make no progress; 1 min when zero
	Now       func() time.Time // clock of the URLs; time.Now when nil
}

// Driver implements [storage.Driver] and [storage.Handler].
type Driver struct {
	root string
	urls signer
	idle time.Duration

	mu      sync.Mutex
	uploads map[string]*upload

	settled sync.Map // folders, which are never removed, that the folder above them is known to have on disk
}

// New opens or makes the root. Only one process may use it at a time: what another one was receiving when it was killed is
// removed, since nobody will send the rest.
func New(o Options) (*Driver, error) {
	if len(o.URLKey) < 32 {
		return nil, errors.New("filesystem storage: the URL key has less than 32 bytes")
	}
	if o.PartTTL == 0 {
		o.PartTTL = time.Hour
	}
	if o.BlobTTL == 0 {
		o.BlobTTL = 15 * time.Minute
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, fmt.Errorf("filesystem storage: %w", err)
	}
	for _, dir := range []string{"uploads", "blobs"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("filesystem storage: making the root: %w", err)
		}
	}
	d := &Driver{
		root:    root,
		urls:    signer{base: o.PublicURL, key: o.URLKey, partTTL: o.PartTTL, blobTTL: o.BlobTTL, now: o.Now},
		idle:    o.Idle,
		uploads: map[string]*upload{},
	}
	if _, err := d.tidy(func(time.Time) bool { return true }); err != nil {
		return nil, fmt.Errorf("filesystem storage: %w", err)
	}
	return d, nil
}

// Traits implements [storage.Driver].
func (*Driver) Traits() storage.Traits {
	return storage.Traits{PartSize: 8 << 20, Streaming: true}
}

// Stat implements [storage.Driver].
func (d *Driver) Stat(_ context.Context, dg digest.Digest) (int64, error) {
	info, err := os.Stat(d.blobPath(dg))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, storage.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("blob %s: %w", dg, err)
	}
	return info.Size(), nil
}

// Delete implements [storage.Driver].
func (d *Driver) Delete(_ context.Context, dg digest.Digest) error {
	dir := filepath.Dir(d.blobPath(dg))
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("delete blob %s: %w", dg, err)
	}
	return syncDir(filepath.Dir(dir))
}

// Check implements [storage.Driver] by making and removing a file.
func (d *Driver) Check(context.Context) error {
	f, err := os.CreateTemp(filepath.Join(d.root, "uploads"), checkPrefix+"*")
	if err != nil {
		return fmt.Errorf("storage root cannot be written: %w", err)
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("storage root cannot be written: %w", err)
	}
	return nil
}

func (d *Driver) blobPath(dg digest.Digest) string {
	return filepath.Join(d.root, filepath.FromSlash(storage.BlobKey(dg)))
}

func (d *Driver) uploadPath(id string) string {
	return filepath.Join(d.root, filepath.FromSlash(storage.UploadKey(id)))
}

func (d *Driver) partPath(id string, n int) string {
	return filepath.Join(d.root, filepath.FromSlash(storage.PartKey(id, n)))
}

// syncUp syncs a folder and those above it as far as one may be new. One that was there already counts as new until
// this process has synced the folder that it is in: who made it may have been killed before.
func (d *Driver) syncUp(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		if err := syncDir(at); err != nil {
			return err
		}
		if _, settled := d.settled.Load(at); settled || at == d.root {
			break
		}
	}
	for at := filepath.Dir(dir); at != d.root; at = filepath.Dir(at) { // not dir itself: it goes with its blob
		d.settled.Store(at, true)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
