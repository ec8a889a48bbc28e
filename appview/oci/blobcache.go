package oci

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
)

// blobCache remembers where blobs were found, and the sizes of those just pushed, so that the manifest that follows
// does not ask the hold for each of them again.
type blobCache struct {
	holds *lru.Cache[blobKey, syntax.DID]
	sizes *lru.Cache[placedBlob, pushedBlob]
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

// pushedTTL is short: the blob may be deleted through another replica.
const pushedTTL = 30 * time.Second

func newBlobCache() *blobCache {
	holds, _ := lru.New[blobKey, syntax.DID](50_000)
	sizes, _ := lru.New[placedBlob, pushedBlob](10_000)
	return &blobCache{holds, sizes}
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
}
