package oci

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
)

// blobCache remembers where blobs were found, the sizes of those just pushed, so that the manifest that follows does
// not ask the hold for each of them again, and the uploads that became them, so that a client may repeat the last PUT.
type blobCache struct {
	holds *lru.Cache[blobKey, syntax.DID]
	sizes *lru.Cache[placedBlob, pushedBlob]
	ended *lru.Cache[string, endedUpload] // by upload id
}

type endedUpload struct {
	blobKey
	expires time.Time
}

type blobKey struct {
	owner syntax.DID
	d     digest.Digest
}

type placedBlob struct {
	blobKey
	hold syntax.DID
}

type pushedBlob struct {
	size    int64
	expires time.Time
}

const (
	pushedTTL = 30 * time.Second // short: the blob may be deleted through another replica
	repeatTTL = 5 * time.Minute  // in which a client repeats a PUT
)

func newBlobCache() *blobCache {
	holds, _ := lru.New[blobKey, syntax.DID](50_000)
	sizes, _ := lru.New[placedBlob, pushedBlob](10_000)
	ended, _ := lru.New[string, endedUpload](10_000)
	return &blobCache{holds, sizes, ended}
}

func (c *blobCache) last(owner syntax.DID, d digest.Digest) syntax.DID {
	hold, _ := c.holds.Get(blobKey{owner, d})
	return hold
}

func (c *blobCache) remember(owner syntax.DID, d digest.Digest, hold syntax.DID) {
	c.holds.Add(blobKey{owner, d}, hold)
}

func (c *blobCache) pushed(owner, hold syntax.DID, d digest.Digest, size int64) {
	c.remember(owner, d, hold)
	c.sizes.Add(placedBlob{blobKey{owner, d}, hold}, pushedBlob{size, time.Now().Add(pushedTTL)})
}

func (c *blobCache) size(owner, hold syntax.DID, d digest.Digest) (int64, bool) {
	p, ok := c.sizes.Get(placedBlob{blobKey{owner, d}, hold})
	return p.size, ok && time.Now().Before(p.expires)
}

func (c *blobCache) forget(owner, hold syntax.DID, d digest.Digest) {
	c.holds.Remove(blobKey{owner, d})
	c.sizes.Remove(placedBlob{blobKey{owner, d}, hold})
	for _, id := range c.ended.Keys() {
		if u, ok := c.ended.Peek(id); ok && u.blobKey == (blobKey{owner, d}) {
			c.ended.Remove(id)
		}
	}
}

// finish remembers what an upload became, until the blob is deleted or the time for repetitions is over.
func (c *blobCache) finish(owner syntax.DID, id string, d digest.Digest) {
	c.ended.Add(id, endedUpload{blobKey{owner, d}, time.Now().Add(repeatTTL)})
}

// finished says whether an upload has become this blob.
func (c *blobCache) finished(owner syntax.DID, id string, d digest.Digest) bool {
	u, ok := c.ended.Get(id)
	return ok && u.blobKey == (blobKey{owner, d}) && time.Now().Before(u.expires)
}
