package hold

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/hold/xrpc"
)

const (
	maxTokenLife  = time.Hour       // of a service token
	tokenLeeway   = 5 * time.Second // for the clocks of PDSes
	maxTokenBytes = 8 << 10
	purgeEvery    = 30 * time.Second // least time between two forced look-ups of a DID
)

// lxmGetRecord is the method that AppViews with OAuth sessions name in their tokens, whatever they call: their scope
// needs one method, and upstream chose this.
const lxmGetRecord = "com.atproto.repo.getRecord"

// Identities finds the key that signs a DID's service tokens. [atproto.Directory] is one.
type Identities interface {
	ResolveDID(ctx context.Context, did syntax.DID) (*atproto.Identity, error)
	Purge(id syntax.AtIdentifier)
}

// tokens verifies service tokens: JWTs that a user's PDS signs for one hold with the user's atproto key.
type tokens struct {
	did       syntax.DID
	directory *directory
	now       func() time.Time
	verified  *lru.Cache[[sha256.Size]byte, verifiedToken]
}

// verifiedTokens is how many tokens are remembered. An AppView sends one for some minutes, and checking a signature costs
// as much as the rest of a call.
const verifiedTokens = 10_000

// verifiedToken is a token that was good: it still is until it ends or its issuer has another key.
type verifiedToken struct {
	issuer syntax.DID
	key    atcrypto.PublicKey
	method string
	ends   time.Time
}

func newTokens(did syntax.DID, own atcrypto.PrivateKeyExportable, ids Identities) *tokens {
	verified, _ := lru.New[[sha256.Size]byte, verifiedToken](verifiedTokens)
	return &tokens{did: did, verified: verified, directory: &directory{self: did, own: own, ids: ids, purged: map[syntax.DID]time.Time{}, now: time.Now}, now: time.Now}
}

// caller is the DID that calls the method, by its service token.
func (t *tokens) caller(r *http.Request, method string) (syntax.DID, error) {
	header := r.Header.Get("Authorization")
	scheme, raw, _ := strings.Cut(header, " ")
	switch {
	case header == "":
		return "", authRequired("This needs a service token: Authorization: Bearer with a JWT from com.atproto.server.getServiceAuth of your PDS, with aud=%s.", t.did)
	case !strings.EqualFold(scheme, "Bearer"), raw == "":
		return "", authRequired("The Authorization header must be Bearer and a service token for %s.", t.did)
	case len(raw) > maxTokenBytes:
		return "", authRequired("The token is longer than %d bytes; ask your PDS for a service token.", maxTokenBytes)
	}
	did, err := t.verify(r.Context(), strings.TrimSpace(raw), method)
	if err != nil {
		var e *xrpc.Error
		if errors.As(err, &e) {
			return "", e
		}
		return "", t.explain(err)
	}
	return did, nil
}

type claims struct {
	jwt.RegisteredClaims
	Method string `json:"lxm"`
}

func (t *tokens) verify(ctx context.Context, raw, method string) (syntax.DID, error) {
	hash := sha256.Sum256([]byte(raw))
	known, ok := t.verified.Get(hash)
	if ok {
		key, err := t.directory.keyOf(ctx, known.issuer)
		ok = err == nil && key != nil && key.Equal(known.key) && t.now().Before(known.ends)
	}
	if !ok {
		t.verified.Remove(hash)
		var err error
		if known, err = t.check(ctx, raw); err != nil {
			return "", err
		}
		t.verified.Add(hash, known)
	}
	if known.method != "" && known.method != method && known.method != lxmGetRecord {
		return "", authRequired("The token is for another method; ask your PDS for one without lxm, or with lxm=%s.", method)
	}
	return syntax.DID(diddoc.Canonical(known.issuer.String())), nil
}

// check verifies a token for whatever method it names.
func (t *tokens) check(ctx context.Context, raw string) (v verifiedToken, err error) {
	// Which spelling of our DID the token names, and how long it lives, is read first and believed only when the
	// signature over the same bytes is good.
	var c claims
	unverified, _, err := jwt.NewParser().ParseUnverified(raw, &c)
	if err != nil {
		return v, err
	}
	validator := auth.ServiceAuthValidator{Audience: t.audience(c.Audience), Dir: t.directory, TimestampLeeway: tokenLeeway}
	did, err := validator.Validate(ctx, raw, nil)
	if err != nil {
		return v, err
	}
	key, err := t.directory.keyOf(ctx, did)
	if err != nil {
		return v, err
	}
	if unverified.Method.Alg() != algorithmOf(key) {
		return v, jwt.ErrTokenSignatureInvalid
	}
	if c.ExpiresAt.Sub(t.now()) > maxTokenLife {
		return v, authRequired("The token lives longer than %s; ask your PDS for a shorter one.", maxTokenLife)
	}
	return verifiedToken{issuer: did, key: key, method: c.Method, ends: c.ExpiresAt.Time}, nil
}

// audience is the spelling of this hold that a token may name: the DID, with or without the service's fragment, with
// the port as %3A or, as the seed writes it, bare. Any other stays unequal to the token's.
func (t *tokens) audience(aud jwt.ClaimStrings) string {
	if len(aud) == 1 {
		did, fragment, _ := strings.Cut(aud[0], "#")
		if (fragment == "" || fragment == diddoc.ServiceHold) && diddoc.Canonical(did) == t.did.String() {
			return aud[0]
		}
	}
	return t.did.String()
}

func authRequired(format string, args ...any) *xrpc.Error {
	return xrpc.Errorf(http.StatusUnauthorized, "AuthRequired", format, args...)
}

// explain says what is wrong with a token, and what to do.
func (t *tokens) explain(err error) *xrpc.Error {
	again := "ask your PDS for a new service token with aud=" + t.did.String() + "."
	why := "The token is not a valid service token; " + again
	switch {
	case errors.Is(err, atproto.ErrUnavailable):
		return xrpc.Errorf(http.StatusServiceUnavailable, "IdentityUnavailable",
			"The DID that signed the token cannot be resolved now; try again in a minute.").Because(err)
	case errors.Is(err, atproto.ErrUnknownIdentity), errors.Is(err, identity.ErrDIDNotFound):
		why = "The DID that signed the token does not exist, or its document cannot be reached from this hold."
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		why = "The token has no expiry or no audience; " + again
	case errors.Is(err, jwt.ErrTokenExpired):
		why = "The token is expired; " + again
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		why = "The token is for another service; " + again
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		why = "The token is not signed by the atproto key of its issuer; " + again
	}
	return xrpc.Errorf(http.StatusUnauthorized, "AuthRequired", "%s", why).Because(err)
}

// directory lets indigo's validator ask our guarded directory. It forgets a DID only now and then when a signature
// does not verify: anybody can send bad signatures.
type directory struct {
	self syntax.DID
	own  atcrypto.PrivateKeyExportable // of self, which is not looked up
	ids  Identities
	now  func() time.Time

	mu     sync.Mutex
	purged map[syntax.DID]time.Time
}

var errNoHandles = errors.New("only DIDs are looked up")

func (d *directory) LookupDID(ctx context.Context, did syntax.DID) (*identity.Identity, error) {
	key, err := d.keyOf(ctx, did)
	if err != nil {
		return nil, err
	}
	out := &identity.Identity{DID: did, Keys: map[string]identity.VerificationMethod{}}
	if key != nil {
		out.Keys["atproto"] = identity.VerificationMethod{Type: "Multikey", PublicKeyMultibase: key.Multibase()}
	}
	return out, nil
}

// keyOf is the key that signs a DID's tokens; nil when the DID names none.
func (d *directory) keyOf(ctx context.Context, did syntax.DID) (atcrypto.PublicKey, error) {
	if did == d.self {
		return d.own.PublicKey()
	}
	id, err := d.ids.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	return id.SigningKey, nil
}

// algorithmOf is the one algorithm of a key: a token must name it.
func algorithmOf(key atcrypto.PublicKey) string {
	if _, ok := key.(*atcrypto.PublicKeyK256); ok {
		return "ES256K"
	}
	return "ES256"
}

func (d *directory) Purge(_ context.Context, id syntax.AtIdentifier) error {
	did, err := id.AsDID()
	if err != nil {
		return errNoHandles
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if now.Sub(d.purged[did]) < purgeEvery {
		return nil
	}
	if len(d.purged) > 10_000 {
		clear(d.purged)
	}
	d.purged[did] = now
	d.ids.Purge(id)
	return nil
}

func (*directory) LookupHandle(context.Context, syntax.Handle) (*identity.Identity, error) {
	return nil, errNoHandles
}

func (*directory) Lookup(context.Context, syntax.AtIdentifier) (*identity.Identity, error) {
	return nil, errNoHandles
}
