package filesystem

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/storage"
)

// Paths of the URLs that the driver hands out.
const (
	partRoute = "/xrpc/io.atcr.hold.uploadPart"
	blobRoute = "/xrpc/io.atcr.hold.readBlob"
)

// signer makes and checks URLs that authorize by themselves: an HMAC over what they allow and until when.
type signer struct {
	base    string
	key     []byte
	partTTL time.Duration
	blobTTL time.Duration
	now     func() time.Time
}

// PartURL implements [storage.Driver].
func (d *Driver) PartURL(_ context.Context, id string, n int) (storage.URL, error) {
	expires := d.urls.now().Add(d.urls.partTTL).Truncate(time.Second)
	q := url.Values{"upload": {id}, "part": {strconv.Itoa(n)}}
	return storage.URL{URL: d.urls.sign(partRoute, q, expires), Method: http.MethodPut, Expires: expires}, nil
}

// BlobURL implements [storage.Driver]. A URL for GET is also good for HEAD.
func (d *Driver) BlobURL(_ context.Context, dg digest.Digest, method string) (storage.URL, error) {
	expires := d.urls.now().Add(d.urls.blobTTL).Truncate(time.Second)
	return storage.URL{URL: d.urls.sign(blobRoute, url.Values{"digest": {dg.String()}}, expires), Method: method, Expires: expires}, nil
}

func (s signer) sign(route string, q url.Values, expires time.Time) string {
	q.Set("expires", strconv.FormatInt(expires.Unix(), 10))
	q.Set("sig", s.mac(route, q))
	return s.base + route + "?" + q.Encode()
}

// mac covers the route and every parameter but the signature itself, in their canonical encoding.
func (s signer) mac(route string, q url.Values) string {
	signed := url.Values{}
	for k, v := range q {
		if k != "sig" {
			signed[k] = v
		}
	}
	m := hmac.New(sha256.New, s.key)
	fmt.Fprintf(m, "%s\n%s", route, signed.Encode())
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// check says whether a URL was made by sign and is not expired, and how long it still lives.
func (s signer) check(route string, q url.Values) (time.Duration, bool) {
	if !hmac.Equal([]byte(s.mac(route, q)), []byte(q.Get("sig"))) {
		return 0, false
	}
	unix, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	if err != nil {
		return 0, false
	}
	left := time.Unix(unix, 0).Sub(s.now())
	return left, left > 0
}
