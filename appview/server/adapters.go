package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/alias"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/oci"
)

// owners finds accounts by the first component of a repository name.
type owners struct{ directory *atproto.Directory }

func (o owners) Owner(ctx context.Context, component string) (syntax.DID, error) {
	id, err := alias.Decode(component)
	if err != nil {
		return "", fmt.Errorf("%w: %w", atproto.ErrUnknownIdentity, err)
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
