package filesystem

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/storage"
)

// upload is what is remembered of an upload in memory. None of it is needed after a restart.
type upload struct {
	mu    sync.Mutex // held while a part is put in place, and for all of Complete
	guess digest.Algorithm
	sums  map[int]sum
}

// sum is the digest of a part, taken while it was written.
type sum struct {
	etag   string
	digest digest.Digest
}

// copyBuffers are large, since a part may be a whole layer.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

func (d *Driver) upload(id string) *upload {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.uploads[id]
	if u == nil {
		u = &upload{guess: digest.SHA256, sums: map[int]sum{}}
		d.uploads[id] = u
	}
	return u
}

func (d *Driver) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.uploads, id)
}

// Begin implements [storage.Driver].
func (d *Driver) Begin(_ context.Context, id string, guess digest.Algorithm) error {
	if err := os.Mkdir(d.uploadPath(id), 0o700); err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	if guess.Available() {
		d.upload(id).guess = guess
	}
	return nil
}

// receivePart stores part n of an upload and returns its ETag. Errors: [storage.ErrNoUpload], and those of the body.
func (d *Driver) receivePart(id string, n int, body io.Reader) (string, error) {
	dir := d.uploadPath(id)
	if _, err := os.Stat(dir); err != nil {
		return "", storage.ErrNoUpload
	}
	u := d.upload(id)
	tmp, err := os.CreateTemp(dir, "incoming-*")
	if errors.Is(err, fs.ErrNotExist) {
		return "", storage.ErrNoUpload
	}
	if err != nil {
		return "", fmt.Errorf("part %d: %w", n, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // when it is not renamed
	defer tmp.Close()

	h := u.guess.Hash()
	if err := copyHashed(tmp, h, body); err != nil {
		return "", fmt.Errorf("part %d: %w", n, err)
	}
	info, err := tmp.Stat()
	if err != nil {
		return "", fmt.Errorf("part %d: %w", n, err)
	}
	etag := etagOf(info)

	u.mu.Lock()
	defer u.mu.Unlock()
	if err := os.Rename(tmp.Name(), d.partPath(id, n)); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // completed or aborted meanwhile
			return "", storage.ErrNoUpload
		}
		return "", fmt.Errorf("part %d: %w", n, err)
	}
	u.sums[n] = sum{etag: etag, digest: digest.NewDigest(u.guess, h)}
	return etag, nil
}

// Abort implements [storage.Driver].
func (d *Driver) Abort(_ context.Context, id string) error {
	u := d.upload(id)
	u.mu.Lock()
	defer u.mu.Unlock()
	defer d.forget(id)
	if err := os.RemoveAll(d.uploadPath(id)); err != nil {
		return fmt.Errorf("abort upload: %w", err)
	}
	return nil
}

// Complete implements [storage.Driver].
func (d *Driver) Complete(_ context.Context, id string, want digest.Digest, parts []storage.Part) (int64, error) {
	if _, err := os.Stat(d.uploadPath(id)); err != nil {
		return 0, fmt.Errorf("complete upload: %w", storage.ErrNoUpload)
	}
	u := d.upload(id)
	u.mu.Lock()
	defer u.mu.Unlock()

	file, got, err := d.assemble(id, u, want.Algorithm(), parts)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if got != want {
		return 0, storage.ErrDigestMismatch
	}
	info, err := file.Stat()
	if err != nil {
		return 0, fmt.Errorf("complete upload: %w", err)
	}
	if err := d.publish(id, file, want); err != nil {
		return 0, fmt.Errorf("complete upload: %w", err)
	}
	return info.Size(), nil
}

// assemble makes one file of the parts and returns it open with its digest: the only part itself when there is one.
func (d *Driver) assemble(id string, u *upload, alg digest.Algorithm, parts []storage.Part) (*os.File, digest.Digest, error) {
	if len(parts) == 1 {
		f, etag, err := d.openPart(id, parts[0])
		if err != nil {
			return nil, "", err
		}
		if s := u.sums[parts[0].Number]; s.etag == etag && s.digest.Algorithm() == alg {
			return f, s.digest, nil
		}
		h := alg.Hash()
		if err := copyHashed(nil, h, f); err != nil {
			f.Close()
			return nil, "", fmt.Errorf("read part %d: %w", parts[0].Number, err)
		}
		return f, digest.NewDigest(alg, h), nil
	}
	name := filepath.Join(d.uploadPath(id), "assembled")
	_ = os.Remove(name) // of a completion that was killed: it may be a blob by now, which is never written to again
	out, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("assemble: %w", err)
	}
	h := alg.Hash()
	for _, p := range parts {
		f, _, err := d.openPart(id, p)
		if err == nil {
			err = copyHashed(out, h, f)
			f.Close()
		}
		if err != nil {
			out.Close()
			return nil, "", err
		}
	}
	return out, digest.NewDigest(alg, h), nil
}

func (d *Driver) openPart(id string, p storage.Part) (*os.File, string, error) {
	f, err := os.Open(d.partPath(id, p.Number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("part %d: %w", p.Number, storage.ErrMissingPart)
	}
	if err != nil {
		return nil, "", fmt.Errorf("part %d: %w", p.Number, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, "", fmt.Errorf("part %d: %w", p.Number, err)
	}
	if !storage.SameETag(p.ETag, etagOf(info)) {
		f.Close()
		return nil, "", fmt.Errorf("part %d: %w", p.Number, storage.ErrMissingPart)
	}
	return f, etagOf(info), nil
}

// publish places a verified file. The upload keeps it under its own name, where the file system has links: a completion
// after a crash finds it again.
func (d *Driver) publish(id string, file *os.File, dg digest.Digest) error {
	verified := filepath.Join(d.uploadPath(id), "verified")
	_ = os.Remove(verified) // of a completion that was killed
	if os.Link(file.Name(), verified) != nil {
		verified = file.Name() // the upload has to begin anew after a crash
	}
	return d.place(file, verified, dg)
}

// place syncs a verified file and renames it to the blob's place, whatever is there.
func (d *Driver) place(file *os.File, name string, dg digest.Digest) error {
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	final := d.blobPath(dg)
	dir := filepath.Dir(final)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(name, final); err != nil {
		return err
	}
	return d.syncUp(dir)
}

// copyHashed copies src to the hash, and to dst unless it is nil.
func copyHashed(dst io.Writer, h hash.Hash, src io.Reader) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			h.Write((*buf)[:n])
			if dst != nil {
				if _, err := dst.Write((*buf)[:n]); err != nil {
					return fmt.Errorf("write: %w", err)
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
}

// etagOf tells apart two files that were stored as one part: the inode counts, since the clock of a file system is
// coarse and a new part is written while the old one still lies there.
func etagOf(info fs.FileInfo) string {
	var inode uint64
	if st, ok := sysStat(info); ok {
		inode = st
	}
	return fmt.Sprintf(`"%x-%x-%x"`, info.Size(), info.ModTime().UnixNano(), inode)
}
