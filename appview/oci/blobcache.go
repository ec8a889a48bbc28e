package oci

import (
	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
)

// blobCache remembers where blobs were found. It says where to look first, never that a blob is there: it may have been
// deleted through another replica.
type blobCache struct {
	holds *lru.Cache[blobKey, syntax.DID]
}

type blobKey struct {
	owner syntax.DID
	d     digest.Digest
}

func newBlobCache() *blobCache {
	holds, _ := lru.New[blobKey, syntax.DID](50_000)
	return &blobCache{holds}
}

func (c *blobCache) last(owner syntax.DID, d digest.Digest) syntax.DID {
	hold, _ := c.holds.Get(blobKey{owner, d})
	return hold
}

func (c *blobCache) remember(owner syntax.DID, d digest.Digest, hold syntax.DID) {
	c.holds.Add(blobKey{owner, d}, hold)
}

func (c *blobCache) forget(owner syntax.DID, d digest.Digest) { c.holds.Remove(blobKey{owner, d}) }
