package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Errors of a request's token.
var (
	ErrNoToken      = errors.New("no token")
	ErrInvalidToken = errors.New("invalid token")
	ErrExpiredToken = errors.New("expired token")
)

const (
	leeway         = time.Minute // between the clocks of issuer and verifier
	maxTokenLength = 16 << 10    // bytes
	verifiedTokens = 10_000      // remembered
)

// Verifier checks tokens. A token that verified is remembered by its hash until it expires or its key leaves the set.
type Verifier struct {
	keys     *Keys
	service  string
	now      func() time.Time
	verified *lru.Cache[[sha256.Size]byte, verifiedToken]

	hits, misses atomic.Uint64
}

type verifiedToken struct {
	claims *Claims
	kid    string
}

// NewVerifier makes one for tokens issued by and for service.
func NewVerifier(keys *Keys, service string, now func() time.Time) *Verifier {
	cache, _ := lru.New[[sha256.Size]byte, verifiedToken](verifiedTokens)
	return &Verifier{keys: keys, service: service, now: now, verified: cache}
}

// Counts are the tokens that were remembered, and those that had to be verified, since the start.
func (v *Verifier) Counts() (hits, misses uint64) { return v.hits.Load(), v.misses.Load() }

// FromRequest verifies the bearer token of a request: [ErrNoToken] when it has none, [ErrExpiredToken],
// [ErrInvalidToken]. The claims are shared: do not change them.
func (v *Verifier) FromRequest(r *http.Request) (*Claims, error) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil, ErrNoToken
	}
	return v.Verify(strings.TrimSpace(token))
}

// Verify checks signature, issuer, audience and times, with a minute of leeway.
func (v *Verifier) Verify(token string) (*Claims, error) {
	if len(token) > maxTokenLength {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalidToken, maxTokenLength)
	}
	set, key := v.keys.Set(), sha256.Sum256([]byte(token))
	if hit, ok := v.verified.Get(key); ok {
		if _, still := set.public[hit.kid]; still && v.now().Before(hit.claims.Expiry.Time()) {
			v.hits.Add(1)
			return hit.claims, nil
		}
		v.verified.Remove(key)
	}
	v.misses.Add(1)
	kid, claims, err := v.check(set, token)
	if err != nil {
		return nil, err
	}
	if v.now().Before(claims.Expiry.Time()) {
		v.verified.Add(key, verifiedToken{claims, kid})
	}
	return claims, nil
}

func (v *Verifier) check(set *KeySet, token string) (kid string, _ *Claims, err error) {
	// Decoders of base64 skip line breaks: a token has one spelling.
	if strings.ContainsAny(token, "\r\n") {
		return "", nil, fmt.Errorf("%w: malformed", ErrInvalidToken)
	}
	if kid, err = headerKID(token); err != nil {
		return "", nil, err
	}
	public, ok := set.public[kid]
	if !ok {
		return "", nil, fmt.Errorf("%w: signed by a key that this registry does not trust", ErrInvalidToken)
	}
	// The algorithm is the key's, not the token's.
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(public.Algorithm)})
	if err != nil {
		return "", nil, fmt.Errorf("%w: malformed", ErrInvalidToken)
	}
	var c Claims
	if err := parsed.Claims(public.Key, &c); err != nil {
		return "", nil, fmt.Errorf("%w: the signature does not verify", ErrInvalidToken)
	}
	now := v.now()
	switch {
	case c.Issuer != v.service, !slices.Contains(c.Audience, v.service):
		return "", nil, fmt.Errorf("%w: issued by or for another service", ErrInvalidToken)
	case c.Expiry == nil:
		return "", nil, fmt.Errorf("%w: it never expires", ErrInvalidToken)
	case now.After(c.Expiry.Time().Add(leeway)):
		return "", nil, ErrExpiredToken
	case c.NotBefore != nil && now.Add(leeway).Before(c.NotBefore.Time()):
		return "", nil, fmt.Errorf("%w: not valid yet; are the clocks right?", ErrInvalidToken)
	}
	return kid, &c, nil
}

// headerKID reads the protected header and refuses every parameter but alg, kid and typ: a token must not bring its
// own key (jwk, x5c), or say where to fetch one (jku, x5u).
func headerKID(token string) (string, error) {
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return "", fmt.Errorf("%w: malformed", ErrInvalidToken)
	}
	var h map[string]any
	if json.Unmarshal(b, &h) != nil {
		return "", fmt.Errorf("%w: malformed", ErrInvalidToken)
	}
	for name := range h {
		if name != "alg" && name != "kid" && name != "typ" {
			return "", fmt.Errorf("%w: a header parameter other than alg, kid and typ", ErrInvalidToken)
		}
	}
	kid, _ := h["kid"].(string)
	if kid == "" {
		return "", fmt.Errorf("%w: no kid", ErrInvalidToken)
	}
	return kid, nil
}
