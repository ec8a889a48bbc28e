package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/hold/storage"
)

// smallBlob is the most bytes of a blob that passes through the hold: its bytes are put as they were hashed. That takes
// fewer requests than copies do.
const smallBlob = 1 << 20

// Complete implements [storage.Driver].
func (d *Driver) Complete(ctx context.Context, id string, want digest.Digest, parts []storage.Part) (int64, error) {
	objects, size, err := d.stat(ctx, id, parts)
	if err == nil {
		if size <= smallBlob {
			err = d.move(ctx, objects, size, want)
		} else {
			err = d.stage(ctx, id, objects, size, want)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("complete upload: %w", err)
	}
	// An endpoint may answer a copy with 200 and then fail: believe only what is there.
	if got, err := d.Stat(ctx, want); err != nil || got != size {
		return 0, fmt.Errorf("complete upload: the endpoint did not keep the blob (%d bytes of %d): %w", got, size, err)
	}
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

// move verifies a small blob and puts the very bytes that were hashed.
func (d *Driver) move(ctx context.Context, objects []object, size int64, want digest.Digest) error {
	var b bytes.Buffer
	b.Grow(int(size))
	for _, o := range objects {
		if err := d.read(ctx, o, 0, o.size, &b); err != nil {
			return err
		}
	}
	if want.Algorithm().FromBytes(b.Bytes()) != want {
		return storage.ErrDigestMismatch
	}
	sum := want // the endpoint compares
	if want.Algorithm() != digest.SHA256 {
		sum = digest.FromBytes(b.Bytes())
	}
	_, err := d.core.PutObject(ctx, d.bucket, storage.BlobKey(want), bytes.NewReader(b.Bytes()), int64(b.Len()), "", sum.Encoded(),
		minio.PutObjectOptions{DisableContentSha256: true})
	if err != nil {
		return fmt.Errorf("put the blob: %w", clean(err))
	}
	return nil
}

// wholeKey is where one completion puts the parts of an upload together. No URL of it is ever signed: what is read there
// cannot be changed by whoever put the parts, as these can until their URLs expire, even without another ETag, which is
// MD5. Nor does another completion write there, whose copy an endpoint may finish long after its client hung up.
func wholeKey(id string) string { return storage.UploadKey(id) + "/" + wholePrefix + rand.Text() }

const wholePrefix = "whole-"

// stage copies the parts to where no client can write, verifies what is there, and copies that into place.
func (d *Driver) stage(ctx context.Context, id string, objects []object, size int64, want digest.Digest) error {
	whole := object{key: wholeKey(id), size: size}
	if err := d.copy(ctx, objects, whole.key); err != nil {
		return err
	}
	h := want.Algorithm().Hash()
	if err := d.read(ctx, whole, 0, size, h); err != nil {
		return err
	}
	if digest.NewDigest(want.Algorithm(), h) != want {
		return storage.ErrDigestMismatch
	}
	return d.copy(ctx, []object{whole}, storage.BlobKey(want))
}

// copy makes an object of the bytes of others, in order. It is there as a whole or not at all. What headers of a part's PUT
// said of it stays behind, as in a multipart upload: a blob with a Content-Encoding would reach clients unpacked.
func (d *Driver) copy(ctx context.Context, objects []object, key string) error {
	if len(objects) > 1 || objects[0].size > d.limits.MaxCopy {
		return d.build(ctx, objects, key)
	}
	_, err := d.core.Client.CopyObject(ctx, minio.CopyDestOptions{Bucket: d.bucket, Object: key, ReplaceMetadata: true, ContentType: "application/octet-stream"},
		minio.CopySrcOptions{Bucket: d.bucket, Object: objects[0].key, MatchETag: objects[0].etag})
	return copyError(err)
}

// build makes an object by a multipart upload.
func (d *Driver) build(ctx context.Context, objects []object, key string) (err error) {
	steps := plan(objects, d.limits)
	if len(steps) > storage.MaxParts {
		return fmt.Errorf("the parts need %d steps, S3 takes %d: upload larger parts", len(steps), storage.MaxParts)
	}
	upload, err := d.core.NewMultipartUpload(ctx, d.bucket, key, minio.PutObjectOptions{})
	if err != nil {
		return fmt.Errorf("start a multipart upload: %w", clean(err))
	}
	defer func() {
		if err != nil { // also when the request was canceled
			_ = d.core.AbortMultipartUpload(context.WithoutCancel(ctx), d.bucket, key, upload)
		}
	}()
	done := make([]minio.CompletePart, len(steps))
	copies, copying := errgroup.WithContext(ctx)
	copies.SetLimit(atOnce)
	for i, s := range steps {
		if !s.copied { // one at a time: it is in memory
			if done[i], err = d.moveStep(copying, objects, s, key, upload, i+1); err != nil {
				break
			}
			continue
		}
		copies.Go(func() (err error) {
			done[i], err = d.copyStep(copying, objects, s, key, upload, i+1)
			return err
		})
	}
	if err := cmp.Or(copies.Wait(), err); err != nil {
		return err
	}
	if _, err := d.core.CompleteMultipartUpload(ctx, d.bucket, key, upload, done, minio.PutObjectOptions{}); err != nil {
		return fmt.Errorf("finish a multipart upload: %w", clean(err))
	}
	return nil
}

// copyStep has the server copy a range.
func (d *Driver) copyStep(ctx context.Context, objects []object, s step, key, upload string, n int) (minio.CompletePart, error) {
	sl := s.slices[0]
	o := objects[sl.obj]
	var when map[string]string
	if o.etag != "" {
		when = map[string]string{"x-amz-copy-source-if-match": o.etag}
	}
	part, err := d.core.CopyObjectPart(ctx, d.bucket, o.key, d.bucket, key, upload, n, sl.offset, sl.length, when)
	return part, copyError(err)
}

// moveStep reads a run of small slices and puts them as one part.
func (d *Driver) moveStep(ctx context.Context, objects []object, s step, key, upload string, n int) (minio.CompletePart, error) {
	var buf bytes.Buffer
	buf.Grow(int(s.size()))
	for _, sl := range s.slices {
		if err := d.read(ctx, objects[sl.obj], sl.offset, sl.length, &buf); err != nil {
			return minio.CompletePart{}, err
		}
	}
	part, err := d.core.PutObjectPart(ctx, d.bucket, key, upload, n, bytes.NewReader(buf.Bytes()), int64(buf.Len()), minio.PutObjectPartOptions{})
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

// read streams a range of an object, as its ETag names it, to w.
func (d *Driver) read(ctx context.Context, o object, offset, length int64, w io.Writer) error {
	var opts minio.GetObjectOptions
	if o.etag != "" {
		if err := opts.SetMatchETag(o.etag); err != nil {
			return fmt.Errorf("read part: %w", err)
		}
	}
	if length != o.size {
		if err := opts.SetRange(offset, offset+length-1); err != nil {
			return fmt.Errorf("read part: %w", err)
		}
	}
	body, _, _, err := d.core.GetObject(ctx, d.bucket, o.key, opts)
	if isChanged(err) || isNotFound(err) {
		return fmt.Errorf("part overwritten during completion: %w", storage.ErrMissingPart)
	}
	if err != nil {
		return fmt.Errorf("read part: %w", clean(err))
	}
	defer body.Close()
	n, err := io.Copy(w, body)
	if err != nil {
		return fmt.Errorf("read part: %w", clean(err))
	}
	if n != length {
		return fmt.Errorf("read part: %d bytes of %d: %w", n, length, storage.ErrMissingPart)
	}
	return nil
}
