package s3

import (
	"context"
	"fmt"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"atcr.io/operator/appview/hold/storage"
)

// Blobs implements [storage.Driver].
func (d *Driver) Blobs(ctx context.Context) iter.Seq2[storage.Stored, error] {
	return func(yield func(storage.Stored, error) bool) {
		for obj := range d.core.ListObjectsIter(ctx, d.bucket, minio.ListObjectsOptions{Prefix: "blobs/", Recursive: true}) {
			if obj.Err != nil {
				yield(storage.Stored{}, fmt.Errorf("walk over blobs: %w", clean(obj.Err)))
				return
			}
			dg, ok := storage.ParseBlobKey(obj.Key)
			if ok && !yield(storage.Stored{Digest: dg, Size: obj.Size, Modified: obj.LastModified}, nil) {
				return
			}
		}
	}
}

// Uploads implements [storage.Driver]. S3 lists keys in order, so the parts of one upload come together.
func (d *Driver) Uploads(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var last string
		for obj := range d.core.ListObjectsIter(ctx, d.bucket, minio.ListObjectsOptions{Prefix: "uploads/", Recursive: true}) {
			if obj.Err != nil {
				yield("", fmt.Errorf("walk over uploads: %w", clean(obj.Err)))
				return
			}
			id, ok := storage.ParsePartKey(obj.Key)
			if !ok || id == last {
				continue
			}
			if last = id; !yield(id, nil) {
				return
			}
		}
	}
}

// PartBytes implements [storage.Sizer].
func (d *Driver) PartBytes(ctx context.Context, id string) (n int64, err error) {
	for obj := range d.core.ListObjectsIter(ctx, d.bucket, minio.ListObjectsOptions{Prefix: storage.UploadKey(id) + "/", Recursive: true}) {
		if obj.Err != nil {
			return 0, fmt.Errorf("list parts: %w", clean(obj.Err))
		}
		if !strings.HasPrefix(path.Base(obj.Key), wholePrefix) { // that is what completions put together
			n += obj.Size
		}
	}
	return n, nil
}

// Tidy implements [storage.Driver]: multipart uploads of completions that were killed. Nobody sees them, and they cost.
func (d *Driver) Tidy(ctx context.Context, before time.Time) (removed int, err error) {
	for _, prefix := range []string{"blobs/", "uploads/"} {
		n, err := d.tidy(ctx, prefix, before)
		if removed += n; err != nil {
			return removed, fmt.Errorf("tidy: %w", err)
		}
	}
	return removed, nil
}

func (d *Driver) tidy(ctx context.Context, prefix string, before time.Time) (removed int, err error) {
	var key, upload string
	for {
		page, err := d.core.ListMultipartUploads(ctx, d.bucket, prefix, key, upload, "", 1000)
		if err != nil {
			return removed, fmt.Errorf("list multipart uploads: %w", clean(err))
		}
		for _, u := range page.Uploads {
			if !u.Initiated.Before(before) {
				continue
			}
			if err := d.core.AbortMultipartUpload(ctx, d.bucket, u.Key, u.UploadID); err != nil && !isNotFound(err) {
				return removed, fmt.Errorf("abort multipart upload: %w", clean(err))
			}
			removed++
		}
		if !page.IsTruncated {
			return removed, nil
		}
		key, upload = page.NextKeyMarker, page.NextUploadIDMarker
	}
}
