package s3

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"io"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/storage"
)

// Complete implements [storage.Driver].
func (d *Driver) Complete(ctx context.Context, id string, want digest.Digest, parts []storage.Part) (int64, error) {
	objects, size, err := d.stat(ctx, id, parts)
	if err != nil {
		return 0, fmt.Errorf("complete upload: %w", err)
	}
	_, err = d.Stat(ctx, want)
	switch {
	case err == nil:
		err = d.verify(ctx, objects, want)
	case len(objects) == 0:
		err = d.putEmpty(ctx, want)
	case len(objects) == 1 && size <= d.limits.MaxCopy:
		err = d.copyWhole(ctx, objects[0], want)
	default:
		err = d.build(ctx, objects, want)
	}
	if err != nil {
		return 0, fmt.Errorf("complete upload: %w", err)
	}
	// An endpoint may answer a copy with 200 and then fail: believe only what is there.
	if got, err := d.Stat(ctx, want); err != nil || got != size {
		return 0, fmt.Errorf("complete upload: the endpoint did not keep the blob (%d bytes of %d): %w", got, size, err)
	}
	// The blob is in place: a part that cannot be removed now is removed by the sweeper.
	_ = d.Abort(ctx, id)
	return size, nil
}

// stat finds the named parts and their sizes. Empty ones are left out: they add no byte, and S3 copies none.
func (d *Driver) stat(ctx context.Context, id string, parts []storage.Part) (objects []object, size int64, err error) {
	for _, p := range parts {
		info, err := d.core.StatObject(ctx, d.bucket, storage.PartKey(id, p.Number), minio.StatObjectOptions{})
		if isNotFound(err) || (err == nil && !storage.SameETag(p.ETag, info.ETag)) {
			return nil, 0, fmt.Errorf("part %d: %w", p.Number, storage.ErrMissingPart)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("part %d: %w", p.Number, clean(err))
		}
		size += info.Size
		if info.Size > 0 {
			objects = append(objects, object{key: storage.PartKey(id, p.Number), etag: info.ETag, size: info.Size})
		}
	}
	return objects, size, nil
}

// verify reads all objects and compares their digest.
func (d *Driver) verify(ctx context.Context, objects []object, want digest.Digest) error {
	v := newVerifier(d, want)
	for i := range objects {
		if err := v.read(ctx, objects, slice{i, 0, objects[i].size}, io.Discard); err != nil {
			return err
		}
	}
	return v.verdict()
}

func (d *Driver) putEmpty(ctx context.Context, want digest.Digest) error {
	if err := newVerifier(d, want).verdict(); err != nil {
		return err
	}
	_, err := d.core.Client.PutObject(ctx, d.bucket, storage.BlobKey(want), bytes.NewReader(nil), 0, minio.PutObjectOptions{})
	if err != nil {
		return fmt.Errorf("put the empty blob: %w", clean(err))
	}
	return nil
}

// copyWhole verifies one object and copies it.
func (d *Driver) copyWhole(ctx context.Context, o object, want digest.Digest) error {
	if err := d.verify(ctx, []object{o}, want); err != nil {
		return err
	}
	_, err := d.core.Client.CopyObject(ctx, minio.CopyDestOptions{Bucket: d.bucket, Object: storage.BlobKey(want)},
		minio.CopySrcOptions{Bucket: d.bucket, Object: o.key, MatchETag: o.etag})
	return copyError(err)
}

// build makes the blob by a multipart upload, which becomes an object only at its end, when the digest is known.
func (d *Driver) build(ctx context.Context, objects []object, want digest.Digest) (err error) {
	steps := plan(objects, d.limits)
	if len(steps) > storage.MaxParts {
		return fmt.Errorf("the parts need %d steps, S3 takes %d: upload larger parts", len(steps), storage.MaxParts)
	}
	key := storage.BlobKey(want)
	upload, err := d.core.NewMultipartUpload(ctx, d.bucket, key, minio.PutObjectOptions{})
	if err != nil {
		return fmt.Errorf("start the blob: %w", clean(err))
	}
	defer func() {
		if err != nil { // also when the request was canceled
			_ = d.core.AbortMultipartUpload(context.WithoutCancel(ctx), d.bucket, key, upload)
		}
	}()
	v := newVerifier(d, want)
	done := make([]minio.CompletePart, len(steps))
	for i, s := range steps {
		var part minio.CompletePart
		if s.copied {
			part, err = d.copyStep(ctx, v, objects, s, key, upload, i+1)
		} else {
			part, err = d.moveStep(ctx, v, objects, s, key, upload, i+1)
		}
		if err != nil {
			return err
		}
		done[i] = part
	}
	if err := v.verdict(); err != nil {
		return err
	}
	if _, err := d.core.CompleteMultipartUpload(ctx, d.bucket, key, upload, done, minio.PutObjectOptions{}); err != nil {
		return fmt.Errorf("finish the blob: %w", clean(err))
	}
	return nil
}

// copyStep reads a range for the digest, and has the server copy the same bytes.
func (d *Driver) copyStep(ctx context.Context, v *verifier, objects []object, s step, key, upload string, n int) (minio.CompletePart, error) {
	sl := s.slices[0]
	o := objects[sl.obj]
	if err := v.read(ctx, objects, sl, io.Discard); err != nil {
		return minio.CompletePart{}, err
	}
	part, err := d.core.CopyObjectPart(ctx, d.bucket, o.key, d.bucket, key, upload, n, sl.offset, sl.length,
		map[string]string{"x-amz-copy-source-if-match": o.etag})
	return part, copyError(err)
}

// moveStep reads a run of small slices, and puts the very bytes that were hashed.
func (d *Driver) moveStep(ctx context.Context, v *verifier, objects []object, s step, key, upload string, n int) (minio.CompletePart, error) {
	var buf bytes.Buffer
	buf.Grow(int(s.size()))
	for _, sl := range s.slices {
		if err := v.read(ctx, objects, sl, &buf); err != nil {
			return minio.CompletePart{}, err
		}
	}
	part, err := d.core.PutObjectPart(ctx, d.bucket, key, upload, n, &buf, int64(buf.Len()), minio.PutObjectPartOptions{})
	if err != nil {
		return minio.CompletePart{}, fmt.Errorf("put joined parts: %w", clean(err))
	}
	return minio.CompletePart{PartNumber: n, ETag: part.ETag}, nil
}

func copyError(err error) error {
	if isChanged(err) || isNotFound(err) {
		return fmt.Errorf("part overwritten during completion: %w", storage.ErrMissingPart)
	}
	if err != nil {
		return fmt.Errorf("server-side copy: %w", clean(err))
	}
	return nil
}

// verifier hashes the objects' bytes in order as they are read.
type verifier struct {
	d    *Driver
	want digest.Digest
	hash hash.Hash
}

func newVerifier(d *Driver, want digest.Digest) *verifier {
	return &verifier{d: d, want: want, hash: want.Algorithm().Hash()}
}

// read streams a range of an object, as its ETag names it, to the hash and to w.
func (v *verifier) read(ctx context.Context, objects []object, sl slice, w io.Writer) error {
	o := objects[sl.obj]
	var opts minio.GetObjectOptions
	if err := opts.SetMatchETag(o.etag); err != nil {
		return fmt.Errorf("read part: %w", err)
	}
	if sl.length != o.size {
		if err := opts.SetRange(sl.offset, sl.offset+sl.length-1); err != nil {
			return fmt.Errorf("read part: %w", err)
		}
	}
	body, _, _, err := v.d.core.GetObject(ctx, v.d.bucket, o.key, opts)
	if isChanged(err) || isNotFound(err) {
		return fmt.Errorf("part overwritten during completion: %w", storage.ErrMissingPart)
	}
	if err != nil {
		return fmt.Errorf("read part: %w", clean(err))
	}
	defer body.Close()
	n, err := io.Copy(io.MultiWriter(v.hash, w), body)
	if err != nil {
		return fmt.Errorf("read part: %w", clean(err))
	}
	if n != sl.length {
		return fmt.Errorf("read part: %d bytes of %d: %w", n, sl.length, storage.ErrMissingPart)
	}
	return nil
}

func (v *verifier) verdict() error {
	if digest.NewDigest(v.want.Algorithm(), v.hash) != v.want {
		return storage.ErrDigestMismatch
	}
	return nil
}
