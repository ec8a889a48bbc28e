package atproto

import (
	"context"
	"encoding/json"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
)

// Known is an identity as it was found.
type Known struct {
	DID      syntax.DID
	Handle   syntax.Handle // verified both ways; empty: none
	Document []byte        // JSON
	FoundAt  time.Time
}

// Memory keeps identities over a restart, so that one that was found bridges an outage of its directory then too.
type Memory interface {
	Keep(ctx context.Context, k Known) error
	// Find is what was kept last of a DID or handle; nil: nothing.
	Find(ctx context.Context, id syntax.AtIdentifier) (*Known, error)
	// Forget says that a DID or handle is nobody's now.
	Forget(ctx context.Context, id syntax.AtIdentifier) error
}

// StaleTTL is how old what a [Memory] keeps may be to be of use.
const StaleTTL = staleTTL

// keepEvery is how often an identity that has not changed is kept again. Its bridge is that much shorter.
const keepEvery = time.Hour

// keep writes down what was found, when it is new; kept is when it was written down last.
func (d *Directory) keep(ctx context.Context, found *Identity, old cached, now time.Time) (kept time.Time) {
	if d.cfg.Memory == nil {
		return time.Time{}
	}
	k := Known{DID: found.DID, FoundAt: now}
	if !found.Handle.IsInvalidHandle() {
		k.Handle = found.Handle
	}
	var err error
	if k.Document, err = json.Marshal(found.Document); err == nil {
		if before := old.identity; before != nil && before.Handle == found.Handle && now.Sub(old.kept) < keepEvery {
			if b, err := json.Marshal(before.Document); err == nil && string(b) == string(k.Document) {
				return old.kept
			}
		}
		err = d.cfg.Memory.Keep(ctx, k)
	}
	if err != nil {
		d.log.WarnContext(ctx, "an identity was not kept; after a restart it bridges no outage of its directory", "identity", string(found.DID), "error", err)
		return old.kept
	}
	return now
}

// recall is what a [Memory] has of an identity that its directory cannot be asked for now, and is young enough.
func (d *Directory) recall(ctx context.Context, id syntax.AtIdentifier, now time.Time) (cached, bool) {
	if d.cfg.Memory == nil {
		return cached{}, false
	}
	k, err := d.cfg.Memory.Find(ctx, id)
	if err != nil {
		d.log.WarnContext(ctx, "an identity that was kept could not be read", "identity", string(id), "error", err)
	}
	if err != nil || k == nil || !now.Before(k.FoundAt.Add(staleTTL)) {
		return cached{}, false
	}
	doc, err := diddoc.Parse(k.Document)
	if err != nil || diddoc.Canonical(doc.ID) != string(k.DID) || id.IsHandle() && string(k.Handle) != string(id) {
		return cached{}, false
	}
	found, _ := read(k.DID, doc)
	if k.Handle != "" {
		found.Handle = k.Handle
	}
	return cached{identity: found, usable: k.FoundAt.Add(staleTTL), kept: k.FoundAt}, true
}

// forget drops what a [Memory] has of an identity that is nobody's.
func (d *Directory) forget(ctx context.Context, id syntax.AtIdentifier) {
	if d.cfg.Memory == nil {
		return
	}
	if err := d.cfg.Memory.Forget(ctx, id); err != nil {
		d.log.WarnContext(ctx, "an identity that is no more was not forgotten", "identity", string(id), "error", err)
	}
}

// read makes an identity of a DID's document, and gives the handle that it declares, unverified.
func read(did syntax.DID, doc *diddoc.Document) (*Identity, syntax.Handle) {
	found := &Identity{DID: did, Handle: syntax.HandleInvalid, Document: doc}
	if e, err := diddoc.PDSEndpoint(doc); err == nil {
		found.PDSEndpoint = e
	}
	parsed := identity.ParseIdentity(indigoDocument(doc))
	if k, err := parsed.PublicKey(); err == nil {
		found.SigningKey = k
	}
	declared, err := parsed.DeclaredHandle()
	if err != nil {
		return found, ""
	}
	return found, declared
}
