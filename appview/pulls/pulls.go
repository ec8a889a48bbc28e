// Package pulls counts pulls, and tells the holds (io.atcr.hold.notifyManifest, operation pull), whose io.atcr.hold.stats
// records say how often a repository is pulled.
//
// A pull is a GET of what a user names: a tag, an index, or a single image by digest. An entry of an index and a referrer
// come along with something else and do not count, and neither does HEAD. One reader, or one network when nobody is
// logged in, counts once an hour for a manifest; clients ask by tag and then by digest, and kubelets ask again and again.
//
// Counting is best effort: it costs a request one look-up in memory, is sent in batches, and is lost when a hold does not
// take it. The AppView signs with its own DID for holds that trust it. Other holds hear of readers who are logged in,
// by their own service tokens, and of nobody else.
package pulls

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/network"
)

const (
	window      = time.Hour       // in which a reader counts once for a manifest
	flushEvery  = 5 * time.Second // a batch
	flushTime   = time.Minute     // for all holds of a batch together
	lastFlush   = 5 * time.Second // of the batch at the end of the process
	refusedTime = time.Hour       // until the AppView's own token is tried again at a hold that refused it
	maxSeen     = 50_000          // remembered readers of manifests
	maxPending  = 10_000          // manifests of one batch
	maxHolds    = 8               // at once
	// MaxCount is how many pulls one notification may tell of.
	MaxCount = 1000
)

// Pull is a manifest that was answered to a GET.
type Pull struct {
	Owner      syntax.DID
	Repository string
	Tag        string // empty when it was asked for by digest
	Digest     digest.Digest
	MediaType  string
	Hold       syntax.DID
	Reader     syntax.DID // empty when nobody is logged in
}

// Holds tells holds. [holdclient.Client] does.
type Holds interface {
	Resolve(ctx context.Context, did syntax.DID) (*holdclient.Hold, error)
	Notify(ctx context.Context, h *holdclient.Hold, user syntax.DID, n holdclient.Notification) error
	NotifySigned(ctx context.Context, h *holdclient.Hold, token string, n holdclient.Notification) error
}

// Config is what a [Counter] is made of.
type Config struct {
	Holds Holds
	// Sign makes the AppView's own token for a method of a hold; nil when it has no key.
	Sign func(hold syntax.DID, method string) (string, error)
	// CameAlong says whether a manifest is an entry of an index or a referrer.
	CameAlong func(ctx context.Context, owner syntax.DID, d digest.Digest) (bool, error)
	Now       func() time.Time
	Log       *slog.Logger
}

// Counter counts pulls. It is safe for concurrent use.
type Counter struct {
	Config

	mu      sync.Mutex
	seen    *lru.Cache[seen, struct{}]
	pending map[Pull]int
	refused *lru.Cache[syntax.DID, time.Time] // holds that do not trust the AppView, until when
}

type seen struct {
	owner  syntax.DID
	digest digest.Digest
	who    string
	hour   int64
}

// New makes a counter.
func New(c Config) *Counter {
	known, _ := lru.New[seen, struct{}](maxSeen)
	refused, _ := lru.New[syntax.DID, time.Time](maxSeen)
	return &Counter{Config: c, seen: known, refused: refused, pending: map[Pull]int{}}
}

// Count takes a pull that r asked for. It never waits.
func (c *Counter) Count(r *http.Request, p Pull) {
	if p.Hold == "" {
		return // nobody to tell
	}
	who := string(p.Reader)
	if who == "" {
		who = network.Of(r)
	}
	key := seen{p.Owner, p.Digest, who, c.Now().UnixNano() / int64(window)}
	if known, _ := c.seen.ContainsOrAdd(key, struct{}{}); known {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pending[p]; ok || len(c.pending) < maxPending {
		c.pending[p]++
	}
}

// Run sends batches until ctx ends, and then the last one.
func (c *Counter) Run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			c.Flush(ctx)
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(ctx, flushTime)
			c.Flush(ctx)
			cancel()
		}
	}
}

// told is one manifest of a batch.
type told struct {
	pulls   int
	readers []syntax.DID // who are logged in
}

// Flush sends what has been counted. A hold that hangs delays no other.
func (c *Counter) Flush(ctx context.Context) {
	c.mu.Lock()
	batch := c.pending
	c.pending = map[Pull]int{}
	c.mu.Unlock()
	byHold := map[syntax.DID]map[Pull]*told{}
	for p, n := range batch {
		what := p
		what.Reader = ""
		manifests := byHold[p.Hold]
		if manifests == nil {
			manifests = map[Pull]*told{}
			byHold[p.Hold] = manifests
		}
		if manifests[what] == nil {
			manifests[what] = &told{}
		}
		manifests[what].pulls += n
		if p.Reader != "" {
			manifests[what].readers = append(manifests[what].readers, p.Reader)
		}
	}
	var group errgroup.Group
	group.SetLimit(maxHolds)
	for did, manifests := range byHold {
		tell := background.Safely(ctx, c.Log, "telling of pulls", func() error { return c.tell(ctx, did, manifests) })
		group.Go(func() error {
			if err := tell(); err != nil {
				c.Log.InfoContext(ctx, "pulls were not counted", "hold", did, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // the functions log their errors
}

func (c *Counter) tell(ctx context.Context, did syntax.DID, manifests map[Pull]*told) error {
	hold, err := c.Holds.Resolve(ctx, holdclient.CanonicalDID(did))
	if err != nil {
		return err
	}
	for p, t := range manifests {
		if p.Tag == "" {
			along, err := c.CameAlong(ctx, p.Owner, p.Digest)
			if err != nil {
				return err
			}
			if along {
				continue
			}
		}
		if err := c.tellOne(ctx, hold, p, t); err != nil {
			return err
		}
	}
	return nil
}

func (c *Counter) tellOne(ctx context.Context, hold *holdclient.Hold, p Pull, t *told) error {
	n := holdclient.Notification{Repository: p.Repository, UserDID: p.Owner, ManifestDigest: string(p.Digest), Tag: p.Tag, Operation: "pull",
		Manifest: holdclient.ManifestInfo{MediaType: p.MediaType}}
	until, _ := c.refused.Get(hold.DID)
	if c.Sign != nil && !c.Now().Before(until) {
		token, err := c.Sign(hold.DID, holdclient.MethodNotify)
		if err != nil {
			return err
		}
		own := n
		own.Count = min(t.pulls, MaxCount)
		err = c.Holds.NotifySigned(ctx, hold, token, own)
		if kind, ok := holdclient.KindOf(err); !ok || kind != holdclient.NeedsLogin && kind != holdclient.Refused {
			return err
		}
		c.refused.Add(hold.DID, c.Now().Add(refusedTime))
		c.Log.InfoContext(ctx, "the hold does not take pull counts from this AppView; only those of readers who are logged in are told", "hold", hold.DID)
	}
	var errs []error
	for _, reader := range t.readers {
		errs = append(errs, c.Holds.Notify(ctx, hold, reader, n))
	}
	return errors.Join(errs...)
}
