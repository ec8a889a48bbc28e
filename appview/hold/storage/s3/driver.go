// Package s3 is the storage driver for any S3-compatible endpoint. Clients move the bytes of parts and blobs straight
// to and from the endpoint by presigned URLs, which sign.go makes.
//
// Every part of an upload is an object of its own, uploads/<id>/<part number>, so that a part may have any size and be
// put again. Completion copies the parts, on the server, to uploads/<id>/whole-*, where no client can write. It reads
// that back once to verify the digest, and copies it to blobs/<algorithm>/<2 hex>/<hex>/data: see complete.go and
// plan.go. A small blob is read and put instead. What is read or copied of parts is named by its ETag, so a part that
// is overwritten meanwhile makes the completion fail.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/hold/storage"
)

// Limits of S3, see "Amazon S3 multipart upload limits". The zero value of a field means S3's own.
type Limits struct {
	MinPart int64 // least bytes of a part of a multipart upload, but for the last: 5 MiB
	MaxCopy int64 // most bytes of one server-side copy: 5 GiB
}

// Addressing is where the name of a bucket is in URLs.
type Addressing string

const (
	AddressAuto    Addressing = "auto"    // virtual for AWS, path for other endpoints and for names with dots
	AddressPath    Addressing = "path"    // endpoint/bucket/key
	AddressVirtual Addressing = "virtual" // bucket.endpoint/key
)

// Options of a Driver.
type Options struct {
	Endpoint  string // scheme://host[:port]; AWS when empty
	Region    string
	Bucket    string
	AccessKey string
	SecretKey string
	Session   string            // token of temporary credentials
	Address   Addressing        // where the bucket is in URLs
	PartTTL   time.Duration     // life of a part's URL, within which its PUT must begin; 15 min when zero
	BlobTTL   time.Duration     // life of a blob's URL; 15 min when zero
	Limits    Limits            // lower than S3's for tests
	Transport http.RoundTripper // to the endpoint; minio's default when nil
}

// Driver implements [storage.Driver].
type Driver struct {
	core    *minio.Core
	signer  *signer
	urls    *lru.Cache[urlKey, storage.URL]
	bucket  string
	partTTL time.Duration
	blobTTL time.Duration
	limits  Limits
}

// requestTries is how often a request is made that the endpoint is too busy for, or fails: within the few seconds that
// a registry waits for.
const requestTries = 5

// New makes a driver; it does not reach the endpoint yet, see Check.
func New(o Options) (*Driver, error) {
	host, secure := awsHost, true
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || (u.Path != "" && u.Path != "/") {
			return nil, errors.New("S3 storage: the endpoint must be http(s)://host[:port] without a path")
		}
		host, secure = u.Host, u.Scheme == "https"
	}
	virtual := o.Address == AddressVirtual || (o.Address != AddressPath && strings.HasSuffix(host, ".amazonaws.com") && !strings.Contains(o.Bucket, "."))
	lookup := minio.BucketLookupPath
	if virtual {
		lookup = minio.BucketLookupDNS
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds:        credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.Session),
		BucketLookup: lookup,
		Secure:       secure,
		Region:       o.Region,
		Transport:    o.Transport,
		MaxRetries:   requestTries,
	})
	if err != nil {
		return nil, fmt.Errorf("S3 storage: %w", err)
	}
	urls, _ := lru.New[urlKey, storage.URL](10_000)
	d := &Driver{core: core, signer: newSigner(o, host, secure, virtual), urls: urls, bucket: o.Bucket, partTTL: o.PartTTL, blobTTL: o.BlobTTL, limits: o.Limits}
	if d.partTTL == 0 {
		d.partTTL = 15 * time.Minute
	}
	if d.blobTTL == 0 {
		d.blobTTL = 15 * time.Minute
	}
	if d.limits.MinPart == 0 {
		d.limits.MinPart = 5 << 20
	}
	if d.limits.MaxCopy == 0 {
		d.limits.MaxCopy = 5 << 30
	}
	return d, nil
}

// Traits implements [storage.Driver].
func (*Driver) Traits() storage.Traits { return storage.Traits{PartSize: 8 << 20} }

// Begin implements [storage.Driver]: there is nothing to prepare.
func (*Driver) Begin(context.Context, string, digest.Algorithm) error { return nil }

// PartURL implements [storage.Driver]. The PUT needs a Content-Length.
func (d *Driver) PartURL(_ context.Context, id string, n int) (storage.URL, error) {
	now := time.Now()
	return storage.URL{URL: d.signer.presign(http.MethodPut, storage.PartKey(id, n), d.partTTL, nil, now), Method: http.MethodPut, Expires: now.Add(d.partTTL)}, nil
}

type urlKey struct {
	digest digest.Digest
	method string
}

// BlobURL implements [storage.Driver]. The same URL is given out for half of its life: caches on the way can use it.
func (d *Driver) BlobURL(_ context.Context, dg digest.Digest, method string) (storage.URL, error) {
	key, now := urlKey{dg, method}, time.Now()
	if u, ok := d.urls.Get(key); ok && u.Expires.Sub(now) > d.blobTTL/2 {
		return u, nil
	}
	key = urlKey{digest.Digest(strings.Clone(string(dg))), strings.Clone(method)} // a request, of which they are parts, is not kept
	q := url.Values{"response-content-type": {"application/octet-stream"}}
	u := storage.URL{URL: d.signer.presign(method, storage.BlobKey(dg), d.blobTTL, q, now), Method: key.method, Expires: now.Add(d.blobTTL)}
	d.urls.Add(key, u)
	return u, nil
}

// Stat implements [storage.Driver].
func (d *Driver) Stat(ctx context.Context, dg digest.Digest) (int64, error) {
	info, err := d.core.StatObject(ctx, d.bucket, storage.BlobKey(dg), minio.StatObjectOptions{})
	if isNotFound(err) {
		return 0, storage.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("stat blob %s: %w", dg, clean(err))
	}
	return info.Size, nil
}

// Delete implements [storage.Driver].
func (d *Driver) Delete(ctx context.Context, dg digest.Digest) error {
	if err := d.remove(ctx, storage.BlobKey(dg)); err != nil {
		return fmt.Errorf("delete blob %s: %w", dg, err)
	}
	return nil
}

// atOnce is how many requests about one upload are under way at a time.
const atOnce = 4

// Abort implements [storage.Driver].
func (d *Driver) Abort(ctx context.Context, id string) error {
	removals, removing := errgroup.WithContext(ctx)
	removals.SetLimit(atOnce)
	opts := minio.ListObjectsOptions{Prefix: storage.UploadKey(id) + "/", Recursive: true}
	var unlisted error
	for obj := range d.core.ListObjectsIter(ctx, d.bucket, opts) {
		if unlisted = obj.Err; unlisted != nil {
			break
		}
		removals.Go(func() error { return d.remove(removing, obj.Key) })
	}
	err := removals.Wait()
	if unlisted != nil {
		err = fmt.Errorf("list parts: %w", clean(unlisted))
	}
	if err != nil {
		return fmt.Errorf("abort upload: %w", err)
	}
	return nil
}

// Check implements [storage.Driver] by asking for the bucket.
func (d *Driver) Check(ctx context.Context) error {
	ok, err := d.core.BucketExists(ctx, d.bucket)
	if err != nil {
		return fmt.Errorf("S3 bucket cannot be reached: %w", clean(err))
	}
	if !ok {
		return errors.New("S3 bucket does not exist; create it")
	}
	return nil
}

func (d *Driver) remove(ctx context.Context, key string) error {
	err := d.core.RemoveObject(ctx, d.bucket, key, minio.RemoveObjectOptions{})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove object: %w", clean(err))
	}
	return nil
}

func isNotFound(err error) bool {
	var resp minio.ErrorResponse
	return errors.As(err, &resp) && resp.StatusCode == http.StatusNotFound
}

// isChanged says whether a precondition on an ETag failed.
func isChanged(err error) bool {
	var resp minio.ErrorResponse
	return errors.As(err, &resp) && resp.StatusCode == http.StatusPreconditionFailed
}

// clean reduces an error of the client to its class: the text of one may quote a URL with its signature, or whatever
// the endpoint answered.
func clean(err error) error {
	var resp minio.ErrorResponse
	if errors.As(err, &resp) {
		return fmt.Errorf("endpoint answered %d %s", resp.StatusCode, resp.Code)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
