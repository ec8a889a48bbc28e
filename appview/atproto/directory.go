package atproto

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/background"
)

// Identity is who somebody is, as far as a registry cares.
type Identity struct {
	DID         syntax.DID         // canonical
	Handle      syntax.Handle      // verified both ways; handle.invalid when it is not
	PDSEndpoint string             // scheme://host[:port]; empty when the DID names none
	SigningKey  atcrypto.PublicKey // of the repository and of service tokens; nil when the DID names none
	Document    *diddoc.Document
}

// Name is the handle when it is verified, else the DID.
func (i *Identity) Name() string {
	if i.Handle == "" || i.Handle.IsInvalidHandle() {
		return string(i.DID)
	}
	return string(i.Handle)
}

// DirectoryConfig is what a [Directory] needs. Clients come from [diddoc.NewClient].
type DirectoryConfig struct {
	PLCURL            string        // e.g. https://plc.directory
	HandleResolverURL string        // optional; asked before DNS and well-known
	Operator          *http.Client  // for the two URLs above, which the operator chose
	Guarded           *http.Client  // for hosts that strangers chose: did:web, well-known
	Resolver          *net.Resolver // of the TXT records of handles; nil is Go's own
	Logger            *slog.Logger
	Memory            Memory           // optional
	CacheSize         int              // identities; 0 is 10,000
	Now               func() time.Time // nil is time.Now
}

// How long answers are remembered.
const (
	positiveTTL = 5 * time.Minute
	negativeTTL = 30 * time.Second
	staleTTL    = 24 * time.Hour // a known identity outlives an outage of its directory by this much
	lookupLimit = 15 * time.Second
)

// Directory resolves identities. It is safe for concurrent use; concurrent look-ups of one name are one look-up.
type Directory struct {
	cfg     DirectoryConfig
	log     *slog.Logger
	now     func() time.Time
	plc     *identity.BaseDirectory
	handles *identity.BaseDirectory
	cache   *lru.Cache[string, cached]
	flight  singleflight.Group
}

type cached struct {
	identity *Identity
	err      error
	until    time.Time // fresh until
	usable   time.Time // until when a stale identity still serves during an outage
	kept     time.Time // in the [Memory]
}

// NewDirectory checks nothing and asks nobody; errors show at the first look-up.
func NewDirectory(cfg DirectoryConfig) *Directory {
	if cfg.CacheSize <= 0 {
		cfg.CacheSize = 10_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cache, _ := lru.New[string, cached](cfg.CacheSize) // fails for sizes below one only
	d := &Directory{
		cfg: cfg, log: cfg.Logger, now: cfg.Now, cache: cache,
		plc:     &identity.BaseDirectory{PLCURL: strings.TrimSuffix(cfg.PLCURL, "/"), HTTPClient: limited(cfg.Operator)},
		handles: &identity.BaseDirectory{HTTPClient: limited(cfg.Guarded)},
	}
	if r := cfg.Resolver; r != nil { // indigo wants a value, which must not be copied
		d.handles.Resolver = net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: r.Dial}
	}
	return d
}

// Resolve looks up a handle or a DID. It fails with [ErrUnknownIdentity] or [ErrUnavailable]. The answer is shared:
// do not change it.
func (d *Directory) Resolve(ctx context.Context, id syntax.AtIdentifier) (*Identity, error) {
	id = normalize(id)
	key := string(id)
	old, known := d.cache.Get(key)
	if known && d.now().Before(old.until) {
		return old.identity, old.err
	}
	id = syntax.AtIdentifier(strings.Clone(key)) // what is kept must not keep the request that it was a part of
	ch := d.flight.DoChan(key, func() (_ any, err error) {
		defer background.Caught(ctx, d.log, "resolving an identity", &err)
		// One caller that gives up must not fail the others that wait for the same answer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupLimit)
		defer cancel()
		return d.refresh(ctx, id, old)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("resolving %s: %w: %w", id, ErrUnavailable, ctx.Err())
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Identity), nil
	}
}

// ResolveDID is Resolve for a DID.
func (d *Directory) ResolveDID(ctx context.Context, did syntax.DID) (*Identity, error) {
	return d.Resolve(ctx, did.AtIdentifier())
}

// Purge forgets what is known of a DID or handle, e.g. because a signature did not verify. What a [Memory] keeps is used
// when the directory cannot be asked, and only then.
func (d *Directory) Purge(id syntax.AtIdentifier) { d.cache.Remove(string(normalize(id))) }

func (d *Directory) refresh(ctx context.Context, id syntax.AtIdentifier, old cached) (*Identity, error) {
	found, ttl, err := d.lookup(ctx, id)
	now := d.now()
	switch {
	case err == nil:
		fresh := cached{identity: found, until: now.Add(ttl), usable: now.Add(ttl + staleTTL), kept: old.kept}
		if ttl == positiveTTL { // else its handle is in doubt
			fresh.kept = d.keep(ctx, found, old, now)
		}
		d.cache.Add(string(id), fresh)
		if id.IsHandle() {
			d.cache.Add(string(found.DID), fresh)
		}
		return found, nil
	case errors.Is(err, ErrUnknownIdentity):
		d.cache.Add(string(id), cached{err: err, until: now.Add(negativeTTL)})
		d.forget(ctx, id)
		return nil, err
	case old.identity != nil && now.Before(old.usable):
		d.log.WarnContext(ctx, "identity could not be refreshed; using what was known", "identity", string(id), "error", err)
		d.cache.Add(string(id), cached{identity: old.identity, until: now.Add(negativeTTL), usable: old.usable, kept: old.kept})
		return old.identity, nil
	}
	if known, ok := d.recall(ctx, id, now); ok {
		d.log.WarnContext(ctx, "identity could not be found; using what was known before", "identity", string(id), "error", err)
		known.until = now.Add(negativeTTL)
		d.cache.Add(string(id), known)
		return known.identity, nil
	}
	return nil, err
}

func (d *Directory) lookup(ctx context.Context, id syntax.AtIdentifier) (*Identity, time.Duration, error) {
	if did, err := id.AsDID(); err == nil {
		found, declared, err := d.document(ctx, did)
		if err != nil {
			return nil, 0, err
		}
		if declared == "" {
			return found, positiveTTL, nil
		}
		owner, err := d.resolveHandle(ctx, declared)
		switch {
		case err == nil && owner == did:
			found.Handle = declared
		case err != nil && !errors.Is(err, ErrUnknownIdentity):
			return found, negativeTTL, nil // the handle could not be checked just now; ask again soon
		}
		return found, positiveTTL, nil
	}
	handle, err := id.AsHandle()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %.80q is neither a handle nor a DID", ErrUnknownIdentity, string(id))
	}
	did, err := d.resolveHandle(ctx, handle)
	if err != nil {
		return nil, 0, err
	}
	found, declared, err := d.document(ctx, did)
	if err != nil {
		return nil, 0, err
	}
	if declared != handle {
		return nil, 0, fmt.Errorf("%w: handle %s points to %s, which does not name it back", ErrUnknownIdentity, handle, did)
	}
	found.Handle = handle
	return found, positiveTTL, nil
}

// document fetches and reads the DID document, and gives the handle that it declares, unverified.
func (d *Directory) document(ctx context.Context, did syntax.DID) (*Identity, syntax.Handle, error) {
	doc, err := d.fetch(ctx, did)
	if err != nil {
		return nil, "", err
	}
	found, declared := read(did, doc)
	return found, declared, nil
}

func (d *Directory) fetch(ctx context.Context, did syntax.DID) (*diddoc.Document, error) {
	switch did.Method() {
	case "plc":
		b, err := d.plc.ResolveDIDRaw(ctx, did)
		switch {
		case errors.Is(err, identity.ErrDIDNotFound):
			return nil, fmt.Errorf("%w: the PLC directory does not know %s", ErrUnknownIdentity, did)
		case err != nil:
			return nil, fmt.Errorf("asking the PLC directory for %s: %w: %w", did, ErrUnavailable, quiet(err))
		}
		doc, err := diddoc.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("asking the PLC directory for %s: %w: %w", did, ErrUnavailable, err)
		}
		if doc.ID != string(did) { // where a token for one DID goes must never be another's choice
			return nil, fmt.Errorf("asking the PLC directory for %s: %w: it answered the document of another DID", did, ErrUnavailable)
		}
		return doc, nil
	case "web":
		doc, err := diddoc.FetchWebDocument(ctx, d.cfg.Guarded, string(did), "")
		switch diddoc.Class(err) {
		case "":
			return doc, nil
		case diddoc.ClassInvalidDocument, diddoc.ClassDIDMismatch, diddoc.ClassBlockedAddress:
			return nil, fmt.Errorf("%w: %w", ErrUnknownIdentity, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil, fmt.Errorf("%w: %.80q uses a DID method other than plc and web", ErrUnknownIdentity, string(did))
}

func normalize(id syntax.AtIdentifier) syntax.AtIdentifier {
	if id.IsDID() {
		return syntax.AtIdentifier(diddoc.Canonical(string(id)))
	}
	return id.Normalize()
}

func indigoDocument(doc *diddoc.Document) *identity.DIDDocument {
	out := &identity.DIDDocument{DID: syntax.DID(diddoc.Canonical(doc.ID)), AlsoKnownAs: doc.AlsoKnownAs}
	for _, m := range doc.VerificationMethod {
		out.VerificationMethod = append(out.VerificationMethod, identity.DocVerificationMethod{
			ID: m.ID, Type: m.Type, Controller: diddoc.Canonical(m.Controller), PublicKeyMultibase: m.PublicKeyMultibase,
		})
	}
	for _, s := range doc.Service {
		out.Service = append(out.Service, identity.DocService{ID: s.ID, Type: s.Type, ServiceEndpoint: string(s.ServiceEndpoint)})
	}
	return out
}
