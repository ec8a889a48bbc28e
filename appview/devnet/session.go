package devnet

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"atcr.io/operator/appview/pds"
)

// Scopes of session tokens, as the reference PDS names them.
const (
	scopeAccess        = "com.atproto.access"
	scopeAppPass       = "com.atproto.appPass"
	scopeAppPrivileged = "com.atproto.appPassPrivileged"
	scopeRefresh       = "com.atproto.refresh"

	typeAccess  = "at+jwt"
	typeRefresh = "refresh+jwt"
)

type sessionClaims struct {
	jwt.Claims
	Scope string `json:"scope"`
}

// sign makes a session token; id is empty for access tokens.
func (n *Net) sign(typ, scope string, did syntax.DID, id string, ttl time.Duration) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: n.sessionKey}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", fmt.Errorf("make a token signer: %w", err)
	}
	now := time.Now()
	claims := sessionClaims{Scope: scope, Claims: jwt.Claims{
		ID: id, Subject: string(did), Audience: jwt.Audience{string(n.serviceDID)}, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ttl)),
	}}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a session token: %w", err)
	}
	return token, nil
}

func badToken(name, message string) error {
	return &pds.XRPCError{Status: http.StatusBadRequest, Name: name, Message: message}
}

// bearer verifies the session token of a request.
func (n *Net) bearer(r *http.Request, typ string, scopes ...string) (sessionClaims, error) {
	var claims sessionClaims
	scheme, raw, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return claims, &pds.XRPCError{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required"}
	}
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil || token.Headers[0].ExtraHeaders[jose.HeaderType] != typ {
		return claims, badToken("InvalidToken", "Token could not be verified")
	}
	if err := token.Claims(n.sessionKey, &claims); err != nil {
		return claims, badToken("InvalidToken", "Token could not be verified")
	}
	err = claims.ValidateWithLeeway(jwt.Expected{AnyAudience: jwt.Audience{string(n.serviceDID)}, Time: time.Now()}, 0)
	if errors.Is(err, jwt.ErrExpired) {
		return claims, badToken("ExpiredToken", "Token has expired")
	}
	if err != nil {
		return claims, badToken("InvalidToken", "Token could not be verified")
	}
	for _, s := range scopes {
		if claims.Scope == s {
			return claims, nil
		}
	}
	return claims, badToken("InvalidToken", "Bad token scope")
}

// authorize is the access check of everything that an app password may do.
func (n *Net) authorize(r *http.Request) (syntax.DID, error) {
	claims, err := n.bearer(r, typeAccess, scopeAccess, scopeAppPrivileged, scopeAppPass)
	return syntax.DID(claims.Subject), err
}

// tokens are the two tokens of a session.
type tokens struct{ access, refresh string }

// issue makes the tokens and remembers the refresh token by its id.
func (n *Net) issue(ctx context.Context, did syntax.DID, app, id string) (tokens, error) {
	scope := scopeAccess
	if app != "" {
		scope = scopeAppPass
		var privileged bool
		err := n.db.QueryRowContext(ctx, `SELECT privileged FROM app_password WHERE did = ? AND name = ?`, did, app).Scan(&privileged)
		if err != nil {
			return tokens{}, fmt.Errorf("look up an app password: %w", err)
		}
		if privileged {
			scope = scopeAppPrivileged
		}
	}
	var t tokens
	var err error
	if t.access, err = n.sign(typeAccess, scope, did, "", n.cfg.AccessTTL); err != nil {
		return tokens{}, err
	}
	if t.refresh, err = n.sign(typeRefresh, scopeRefresh, did, id, refreshTTL); err != nil {
		return tokens{}, err
	}
	_, err = n.db.ExecContext(ctx, `INSERT INTO refresh_token (id, did, app_password, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		id, did, app, time.Now().Add(refreshTTL).UnixMilli())
	if err != nil {
		return tokens{}, fmt.Errorf("store a refresh token: %w", err)
	}
	return t, nil
}

func (n *Net) answerSession(w http.ResponseWriter, r *http.Request, a account, t tokens) error {
	doc, err := n.didDocument(r.Context(), a.DID)
	if err != nil {
		return err
	}
	out := map[string]any{"did": a.DID, "handle": a.Handle, "didDoc": doc, "email": a.Email, "emailConfirmed": false, "active": true}
	if t.access != "" {
		out["accessJwt"], out["refreshJwt"] = t.access, t.refresh
	}
	pds.WriteJSON(w, http.StatusOK, out)
	return nil
}

func (n *Net) createSession(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Identifier string `json:"identifier"`
		Password   string `json:"password"`
	}
	if err := pds.ReadJSON(w, r, pds.MaxJSONBytes, &in); err != nil {
		return err
	}
	if in.Identifier == "" || in.Password == "" {
		return pds.InvalidRequest("identifier and password are required")
	}
	if err := n.limiter.take(w, in.Identifier); err != nil {
		return err
	}
	a, app, err := n.login(r.Context(), in.Identifier, in.Password)
	if err != nil {
		return err
	}
	t, err := n.issue(r.Context(), a.DID, app, rand.Text())
	if err != nil {
		return err
	}
	return n.answerSession(w, r, a, t)
}

// refreshSession replaces a refresh token. The old one keeps working for the grace period and gives the same successor, so
// that a client which lost the answer can ask again.
func (n *Net) refreshSession(w http.ResponseWriter, r *http.Request) error {
	claims, err := n.bearer(r, typeRefresh, scopeRefresh)
	if err != nil {
		return err
	}
	n.refreshing.Lock() // two uses of one token get one successor
	defer n.refreshing.Unlock()
	var app, next string
	var expires int64
	err = n.db.QueryRowContext(r.Context(), `SELECT app_password, next_id, expires_at FROM refresh_token WHERE id = ? AND did = ?`, claims.ID, claims.Subject).
		Scan(&app, &next, &expires)
	now := time.Now()
	if errors.Is(err, sql.ErrNoRows) || err == nil && expires <= now.UnixMilli() {
		return badToken("ExpiredToken", "Token has been revoked")
	}
	if err != nil {
		return fmt.Errorf("look up a refresh token: %w", err)
	}
	if next == "" {
		next = rand.Text()
	}
	grace := min(expires, now.Add(n.cfg.RefreshGrace).UnixMilli())
	if _, err := n.db.ExecContext(r.Context(), `UPDATE refresh_token SET next_id = ?, expires_at = ? WHERE id = ?`, next, grace, claims.ID); err != nil {
		return fmt.Errorf("rotate a refresh token: %w", err)
	}
	a, err := n.account(r.Context(), claims.Subject)
	if err != nil {
		return err
	}
	t, err := n.issue(r.Context(), a.DID, app, next)
	if err != nil {
		return err
	}
	return n.answerSession(w, r, a, t)
}

func (n *Net) deleteSession(w http.ResponseWriter, r *http.Request) error {
	claims, err := n.bearer(r, typeRefresh, scopeRefresh)
	if err != nil {
		return err
	}
	if _, err := n.db.ExecContext(r.Context(), `DELETE FROM refresh_token WHERE id = ? AND did = ?`, claims.ID, claims.Subject); err != nil {
		return fmt.Errorf("delete a refresh token: %w", err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (n *Net) getSession(w http.ResponseWriter, r *http.Request) error {
	did, err := n.authorize(r)
	if err != nil {
		return err
	}
	a, err := n.account(r.Context(), string(did))
	if err != nil {
		return err
	}
	return n.answerSession(w, r, a, tokens{})
}

// EndSessions ends all sessions of an account, as its owner can by deleting them; access tokens live on until they expire.
func (n *Net) EndSessions(ctx context.Context, did syntax.DID) error {
	if _, err := n.db.ExecContext(ctx, `DELETE FROM refresh_token WHERE did = ?`, did); err != nil {
		return fmt.Errorf("end the sessions of %s: %w", did, err)
	}
	return nil
}
