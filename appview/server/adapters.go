package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/alias"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci"
	"atcr.io/operator/appview/store"
)

// owners finds accounts by the first component of a repository name.
type owners struct {
	directory *atproto.Directory
	decoded   *lru.Cache[string, syntax.AtIdentifier] // reading one costs as much as the rest of a manifest's GET
}

func newOwners(directory *atproto.Directory) owners {
	decoded, _ := lru.New[string, syntax.AtIdentifier](10_000)
	return owners{directory, decoded}
}

func (o owners) Owner(ctx context.Context, component string) (syntax.DID, error) {
	id, ok := o.decoded.Get(component)
	if !ok {
		var err error
		if id, err = alias.Decode(component); err != nil {
			return "", fmt.Errorf("%w: %w", atproto.ErrUnknownIdentity, err)
		}
		o.decoded.Add(component, id)
	}
	if did, err := id.AsDID(); err == nil {
		return did, nil // a DID needs no look-up here; its PDS is found when it is asked
	}
	who, err := o.directory.Resolve(ctx, id)
	if err != nil {
		return "", err
	}
	return who.DID, nil
}

func (o owners) Component(ctx context.Context, did syntax.DID) (string, error) {
	who, err := o.directory.ResolveDID(ctx, did)
	if err != nil {
		return "", err
	}
	if who.Handle != "" && !who.Handle.IsInvalidHandle() {
		return string(who.Handle), nil
	}
	return alias.Encode(did)
}

// holds finds holds by their DID documents.
type holds struct{ directory *atproto.Directory }

func (h holds) HoldEndpoint(ctx context.Context, did syntax.DID) (string, error) {
	who, err := h.directory.ResolveDID(ctx, did)
	if err != nil {
		return "", err
	}
	return diddoc.HoldEndpoint(who.Document)
}

// serviceTokens asks the user's PDS for service tokens.
type serviceTokens struct{ pds *atproto.PDS }

func (t serviceTokens) ServiceToken(ctx context.Context, user, hold syntax.DID) (string, error) {
	return t.pds.ServiceToken(ctx, user, string(hold))
}

// tokens verifies registry tokens.
type tokens struct {
	verifier   *auth.Verifier
	challenger *auth.Challenger
}

func (t tokens) Verify(raw string) (oci.Grant, error) {
	claims, err := t.verifier.Verify(raw)
	if err != nil {
		return nil, err
	}
	return grant{claims}, nil
}

func (t tokens) Challenge(w http.ResponseWriter, r *http.Request, scope, problem string) {
	t.challenger.Challenge(w, r, scope, problem)
}

type grant struct{ claims *auth.Claims }

func (g grant) Subject() syntax.DID { return syntax.DID(g.claims.Subject) }

func (g grant) Allows(kind, name, action string) bool { return g.claims.AllowsOn(kind, name, action) }

// identities keeps identities in the store.
type identities struct{ db *store.DB }

func (i identities) Keep(ctx context.Context, k atproto.Known) error {
	return i.db.SaveIdentity(ctx, store.Identity{DID: string(k.DID), Handle: string(k.Handle), Document: string(k.Document), FoundAt: k.FoundAt})
}

func (i identities) Find(ctx context.Context, id syntax.AtIdentifier) (*atproto.Known, error) {
	found, err := i.db.Identity(ctx, string(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &atproto.Known{DID: syntax.DID(found.DID), Handle: syntax.Handle(found.Handle), Document: []byte(found.Document), FoundAt: found.FoundAt}, nil
}

func (i identities) Forget(ctx context.Context, id syntax.AtIdentifier) error {
	return i.db.ForgetIdentity(ctx, string(id))
}

// profiled makes a user's profile at the first login, as other AppViews do. A login never fails for it.
type profiled struct {
	auth.Passwords
	mirror      *index.Mirror
	defaultHold func() syntax.DID
	log         *slog.Logger
}

func (p profiled) Check(ctx context.Context, who *atproto.Identity, secret, from string) (credential string, err error) {
	if credential, err = p.Passwords.Check(ctx, who, secret, from); err != nil {
		return "", err
	}
	if err := p.mirror.EnsureProfile(ctx, who.DID, p.defaultHold()); err != nil {
		p.log.InfoContext(ctx, "profile was not made at login", "did", string(who.DID), "error", err)
	}
	return credential, nil
}
