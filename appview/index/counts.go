package index

import "sync/atomic"

// Caches of a [Mirror], by what is looked up in them.
const (
	CacheBytes      = "bytes"      // a manifest's bytes
	CacheManifest   = "manifest"   // whether a repository has a digest, and its row
	CacheTag        = "tag"        // what a tag names
	CacheReferrers  = "referrers"  // a page of a list of referrers
	CacheRepository = "repository" // whether the DID has anything under a name
)

// Results of look-ups in them.
const (
	Hit    = "hit"
	Absent = "absent" // a hit too: it is known not to be there
	Miss   = "miss"
)

// Results of comparing a mirror with its PDS.
const (
	SyncUnchanged = "unchanged"
	SyncRead      = "read"      // the records were read again
	SyncTruncated = "truncated" // so, but there are more than are mirrored: the newest are
	SyncFailed    = "failed"    // the PDS, or our database, gave no answer
)

// Where bytes were found that do not hash to their digest.
const (
	CorruptPDS   = "pds"   // the record of a stranger, or of a broken PDS
	CorruptStore = "store" // our own database
)

// counter counts events of a few kinds that are known from the start.
type counter map[string]*atomic.Uint64

func newCounter(kinds ...string) counter {
	c := counter{}
	for _, k := range kinds {
		c[k] = &atomic.Uint64{}
	}
	return c
}

func (c counter) values() map[string]uint64 {
	out := map[string]uint64{}
	for kind, n := range c {
		out[kind] = n.Load()
	}
	return out
}

type counters struct {
	lookups map[string]counter // by cache
	syncs   counter
	corrupt counter
	stale   atomic.Uint64
}

func newCounters() *counters {
	c := &counters{syncs: newCounter(SyncUnchanged, SyncRead, SyncTruncated, SyncFailed), corrupt: newCounter(CorruptPDS, CorruptStore),
		lookups: map[string]counter{CacheBytes: newCounter(Hit, Miss), CacheReferrers: newCounter(Hit, Miss)}}
	for _, cache := range []string{CacheManifest, CacheTag, CacheRepository} {
		c.lookups[cache] = newCounter(Hit, Absent, Miss)
	}
	return c
}

// Counts are what a mirror has done since it was made.
type Counts struct {
	Lookups map[string]map[string]uint64 // by cache and result
	Syncs   map[string]uint64            // by result
	Corrupt map[string]uint64            // manifests whose bytes do not hash to their digest, by where they were found
	Stale   uint64                       // requests answered from the mirror because the PDS could not be asked
}

// Counts are the mirror's.
func (m *Mirror) Counts() Counts {
	c := Counts{Lookups: map[string]map[string]uint64{}, Syncs: m.counts.syncs.values(), Corrupt: m.counts.corrupt.values(), Stale: m.counts.stale.Load()}
	for cache, n := range m.counts.lookups {
		c.Lookups[cache] = n.values()
	}
	return c
}
