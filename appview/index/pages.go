package index

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// ReferrersKey is what a page of a list of referrers is asked for by. It is kept: its strings are no parts of larger ones.
type ReferrersKey struct {
	Repository         string
	Subject            digest.Digest
	ArtifactType, Last string
}

type pageKey struct {
	did        syntax.DID
	generation uint64
	ReferrersKey
}

func (k pageKey) size() int {
	return len(k.did) + len(k.Repository) + len(k.Subject) + len(k.ArtifactType) + len(k.Last)
}

// Page is what write makes of a list, from memory if that was at the DID's present generation: a page of hundreds of
// referrers takes milliseconds to read and to write as JSON. One that write does not call lasting is not kept: more may be
// known without a change of the DID's rows.
func (m *Mirror) Page(ctx context.Context, did syntax.DID, of ReferrersKey, write func() (page []byte, lasting bool, err error)) ([]byte, error) {
	if err := m.Fresh(ctx, did, m.TTL); err != nil {
		return nil, err
	}
	generation, err := m.generation(ctx, did) // before write reads: a change meanwhile makes the page old
	if err != nil {
		return nil, err
	}
	key, lookups := pageKey{did, generation, of}, m.counts.lookups[CacheReferrers]
	if page, ok := m.pages.get(key); ok {
		lookups[Hit].Add(1)
		return page, nil
	}
	lookups[Miss].Add(1)
	page, lasting, err := write()
	if err == nil && lasting {
		m.pages.put(key, page)
	}
	return page, err
}
