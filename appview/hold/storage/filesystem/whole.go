package filesystem

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/storage"
)

// wholePrefix begins the names of files whose bytes still come.
const wholePrefix = ".whole-"

// received implements [storage.Received].
type received struct {
	driver *Driver
	file   *os.File
	digest digest.Digest
	size   int64
}

// Receive implements [storage.Receiver].
func (d *Driver) Receive(alg digest.Algorithm, body io.Reader) (storage.Received, error) {
	file, err := os.CreateTemp(filepath.Join(d.root, "uploads"), wholePrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	r := &received{driver: d, file: file}
	h := alg.Hash()
	if err = copyHashed(file, h, body); err == nil {
		r.size, err = file.Seek(0, io.SeekCurrent)
	}
	if err != nil {
		r.Discard()
		return nil, fmt.Errorf("blob: %w", err)
	}
	r.digest = digest.NewDigest(alg, h)
	return r, nil
}

func (r *received) Digest() digest.Digest { return r.digest }
func (r *received) Size() int64           { return r.size }

// Publish implements [storage.Received].
func (r *received) Publish() error {
	if err := r.driver.place(r.file, r.file.Name(), r.digest); err != nil {
		return fmt.Errorf("publish blob: %w", err)
	}
	return nil
}

// Discard implements [storage.Received].
func (r *received) Discard() {
	_ = r.file.Close()           // synced, or not wanted
	_ = os.Remove(r.file.Name()) // fails once it is published
}
