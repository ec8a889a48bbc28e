package hold

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto/records"
)

// Garbage is what a collection found, or with DryRun would have removed.
type Garbage struct {
	DryRun       bool  `json:"dryRun"`
	Users        int   `json:"users"`      // that have anything here
	Unreadable   int   `json:"unreadable"` // of them: nothing of theirs was touched
	Manifests    int   `json:"manifests"`  // public ones of the others
	Repaired     int   `json:"repaired"`   // public manifests whose push nobody had told of
	Gone         int   `json:"gone"`       // manifests that were, and are not any more
	LayerRecords int   `json:"layerRecords"`
	Links        int   `json:"links"` // blobs taken from a user
	Blobs        int   `json:"blobs"` // objects removed from the storage
	Bytes        int64 `json:"bytes"`
	Strays       int   `json:"strays"` // objects of which the hold's database knows nothing; they stay
}

// ErrCollecting is the answer while another collection runs.
var ErrCollecting = errors.New("a garbage collection runs already")

// collection is one run of the garbage collector.
//
// It marks what the manifests of each user name, as the users' PDSes have them, never what is tagged. A user whose PDS
// cannot be reached, or of whose manifests one cannot be read, keeps everything. Of the others' it takes layer records
// of manifests that are not public any more, and blobs that no manifest names which were not used for the grace
// period, which begins for the blobs of a manifest when it is missed. Last go objects of the storage that are known to be
// nobody's. Every step is complete by itself: a run that is killed leaves less for the next.
type collection struct {
	*Server
	Garbage
	started time.Time
	layers  map[syntax.DID]map[syntax.ATURI][]syntax.RecordKey
	freed   map[digest.Digest]map[syntax.DID]bool // with DryRun: links that would go
}

// CollectGarbage runs the garbage collector once.
func (s *Server) CollectGarbage(ctx context.Context, dryRun bool) (Garbage, error) {
	if !s.collecting.TryLock() {
		return Garbage{}, ErrCollecting
	}
	defer s.collecting.Unlock()
	c := &collection{Server: s, Garbage: Garbage{DryRun: dryRun}, started: s.now(),
		freed: map[digest.Digest]map[syntax.DID]bool{}}
	err := c.run(ctx)
	outcome := "completed"
	if err != nil {
		outcome = "failed"
	}
	s.metrics.collections.WithLabelValues(outcome).Inc()
	if !dryRun {
		for what, n := range map[string]int{"link": c.Links, "blob": c.Blobs, "layer_record": c.LayerRecords} {
			s.metrics.collected.WithLabelValues(what).Add(float64(n))
		}
		s.metrics.collectedBytes.Add(float64(c.Bytes))
	}
	s.metrics.unreadable.Set(float64(c.Unreadable))
	s.log.InfoContext(ctx, "garbage collection", "dry_run", dryRun, "users", c.Users, "unreadable", c.Unreadable, "manifests", c.Manifests,
		"repaired", c.Repaired, "gone", c.Gone, "layer_records", c.LayerRecords, "links", c.Links, "blobs", c.Blobs, "bytes", c.Bytes, "strays", c.Strays,
		"took", s.now().Sub(c.started).Round(time.Millisecond), "error", err)
	return c.Garbage, err
}

// collectLoop runs the collector at its interval until the context ends.
func (s *Server) collectLoop(ctx context.Context) {
	tick := time.NewTicker(s.cfg.GCInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, _ = s.CollectGarbage(ctx, s.cfg.GCDryRun) // it logs its own end
	}
}

func (c *collection) run(ctx context.Context) error {
	users, err := c.users(ctx)
	if err != nil {
		return err
	}
	c.Users = len(users)
	for _, did := range users {
		err := c.user(ctx, did)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var failed *storeError
		if errors.As(err, &failed) {
			return err
		}
		if err != nil {
			c.Unreadable++
			c.log.WarnContext(ctx, "garbage collection leaves a user alone whose manifests cannot be read", "did", did, "error", err)
		}
	}
	return c.storage(ctx)
}

// storeError is a failure of the hold's own: the run cannot go on.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

func ours(err error) error {
	if err == nil {
		return nil
	}
	return &storeError{err}
}

// users are all DIDs that the ledger or a layer record names.
func (c *collection) users(ctx context.Context) ([]syntax.DID, error) {
	users, err := c.ledger.Users(ctx)
	if err != nil {
		return nil, err
	}
	known := map[syntax.DID]bool{}
	for _, did := range users {
		known[did] = true
	}
	c.layers = map[syntax.DID]map[syntax.ATURI][]syntax.RecordKey{}
	for rec, err := range c.engine.Records(ctx, c.self.did, layerCollection) {
		if err != nil {
			return nil, fmt.Errorf("read layer records: %w", err)
		}
		var l layer
		if decode(rec.Value, &l) != nil {
			continue // imported from elsewhere: it counts for nobody
		}
		did := canonical(l.UserDID)
		if c.layers[did] == nil {
			c.layers[did] = map[syntax.ATURI][]syntax.RecordKey{}
		}
		c.layers[did][l.Manifest] = append(c.layers[did][l.Manifest], rec.RKey)
		if !known[did] {
			known[did] = true
			users = append(users, did)
		}
	}
	return users, nil
}

// user collects what one user does not need any more.
func (c *collection) user(ctx context.Context, did syntax.DID) error {
	public, err := c.reader.read(ctx, did)
	if err != nil {
		return err
	}
	missing, err := c.missing(ctx, did, public)
	if err != nil {
		return err
	}
	unlock := c.userLocks.lock(did.String())
	defer unlock()
	if still, err := c.reader.current(ctx, did, public); err != nil {
		return err
	} else if !still {
		return errors.New("the repository changed after it was read")
	}
	c.Manifests += len(public.manifests)
	if err := c.repair(ctx, did, public); err != nil {
		return ours(err)
	}
	for _, d := range missing {
		if err := c.gone(ctx, did, d); err != nil {
			return ours(err)
		}
	}
	return ours(c.links(ctx, did, public))
}

// mostMissing manifests of one user, at most, are taken as gone by one collection; the next one sees about the others.
const mostMissing = 1000

// missing are manifests that a user had when the collection began, and has not at the PDS.
func (c *collection) missing(ctx context.Context, did syntax.DID, public *published) ([]digest.Digest, error) {
	known, err := c.ledger.ManifestsOf(ctx, did, c.started)
	if err != nil {
		return nil, ours(err)
	}
	for uri := range c.layers[did] {
		if owner, d, err := records.DigestOfURI(uri.String()); err == nil && canonical(owner) == did {
			known = append(known, d)
		}
	}
	slices.Sort(known)
	missing := slices.DeleteFunc(slices.Compact(known), func(d digest.Digest) bool { _, ok := public.manifests[d]; return ok })
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] }) // one that cannot be asked for holds up no others for ever
	return c.reader.absent(ctx, did, missing[:min(len(missing), mostMissing)])
}

// gone takes the layer records of a manifest that is not public any more. Its blobs stay for the grace period, as does the
// ledger's knowledge of it: a user who moves from one PDS to another may have none for a while, and then have it again.
func (c *collection) gone(ctx context.Context, did syntax.DID, d digest.Digest) error {
	uri := manifestURI(did, d)
	keys := c.layers[did][uri]
	if !c.DryRun {
		if was, err := c.ledger.Gone(ctx, did, d, uri, c.started, c.now()); err != nil || !was {
			return err // or it was pushed again while we looked
		}
		if err := c.deleteLayerRecords(ctx, keys); err != nil {
			return err
		}
		if _, err := c.removeLayers(ctx, uri); err != nil {
			return err
		}
	}
	c.Gone++
	c.LayerRecords += len(keys)
	return nil
}

// links takes the blobs from a user that none of the user's manifests names and that were not used lately.
func (c *collection) links(ctx context.Context, did syntax.DID, public *published) error {
	links, err := c.ledger.LinksOf(ctx, did)
	if err != nil {
		return err
	}
	reserved, used := c.started.Add(-notifyHorizon), c.started.Add(-c.cfg.GCGrace)
	for _, l := range links {
		if public.named[l.Digest] || !l.UsedAt.Before(used) {
			continue
		}
		went, err := c.unlink(ctx, did, l.Digest, reserved, used)
		if err != nil {
			return err
		}
		if went {
			c.Links++
		}
	}
	return nil
}

func (c *collection) unlink(ctx context.Context, did syntax.DID, d digest.Digest, reserved, used time.Time) (bool, error) {
	if !c.DryRun {
		return c.ledger.UnlinkUnused(ctx, did, d, reserved, used)
	}
	kept, err := c.ledger.Kept(ctx, did, d, reserved)
	if err != nil || kept {
		return false, err
	}
	if c.freed[d] == nil {
		c.freed[d] = map[syntax.DID]bool{}
	}
	c.freed[d][did] = true
	return true, nil
}

// storage removes objects that are known to be nobody's: those just taken from their last user, those whose removal failed
// before, and those of completions that were killed before they had a user. What the ledger does not know at all may be all
// that is left after the ledger was lost, or be newer than the copy of the ledger that was put back, so it stays.
func (c *collection) storage(ctx context.Context) error {
	before := c.started.Add(-c.cfg.GCGrace)
	if wait, err := c.ledger.Incomplete(ctx, before); err != nil || wait {
		if wait {
			c.log.InfoContext(ctx, "garbage collection keeps all objects: the ledger was restored, and users whose PDSes have not been read since may have more of them")
		}
		return err
	}
	for b, err := range c.driver.Blobs(ctx) {
		if err != nil {
			return err
		}
		if !b.Modified.Before(before) {
			continue
		}
		went, err := c.object(ctx, b.Digest)
		if err != nil {
			return err
		}
		if went {
			c.Blobs++
			c.Bytes += b.Size
		}
	}
	return nil
}

// object removes a blob from the storage unless somebody has it, or completes it now.
func (c *collection) object(ctx context.Context, d digest.Digest) (went bool, err error) {
	unlock, ok := c.blobLocks.tryLock(d.String())
	if !ok {
		return false, nil
	}
	unowned, err := c.unowned(ctx, d)
	if err != nil || !unowned || c.DryRun {
		unlock()
		return unowned, err
	}
	return true, c.remove(ctx, d, unlock)
}

// unowned says whether a blob is known to be nobody's, or with DryRun would be.
func (c *collection) unowned(ctx context.Context, d digest.Digest) (bool, error) {
	owners, err := c.ledger.OwnersOf(ctx, d)
	if err != nil || len(owners) > 0 {
		return err == nil && !slices.ContainsFunc(owners, func(did syntax.DID) bool { return !c.freed[d][did] }), err
	}
	known, err := c.ledger.Unowned(ctx, d)
	if err == nil && !known {
		c.Strays++
	}
	return known, err
}

// untoldAfter is how long a registry has to tell of a manifest that it reserved, before the hold looks itself.
const untoldAfter = time.Hour

// repair writes the layer records of public manifests whose push nobody has told of: the registry was killed after
// the user's PDS had taken it, or gave up. Only manifests that were reserved here count, and those that were missed before
// and are back.
func (c *collection) repair(ctx context.Context, did syntax.DID, public *published) error {
	for d, m := range public.manifests {
		untold, err := c.ledger.Untold(ctx, did, d, c.started.Add(-untoldAfter))
		if err != nil {
			return err
		}
		if !untold {
			continue
		}
		c.Repaired++
		if c.DryRun {
			continue
		}
		if err := c.tell(ctx, did, d, m); err != nil {
			return err
		}
	}
	return nil
}
