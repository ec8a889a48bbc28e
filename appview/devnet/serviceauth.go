package devnet

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/auth"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/pds"
)

// Audiences that the reference PDS signs for: did:plc, and did:web without path and port, but for localhost.
var (
	plcDID = regexp.MustCompile(`^did:plc:[a-z2-7]{24}$`)
	webDID = regexp.MustCompile(`^did:web:(localhost%3A[0-9]{1,5}|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)$`)
	didRef = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)
)

// protectedMethods are account management, which nobody does in the name of another service.
var protectedMethods = map[string]bool{
	"com.atproto.admin.sendEmail":                       true,
	"com.atproto.identity.requestPlcOperationSignature": true,
	"com.atproto.identity.signPlcOperation":             true,
	"com.atproto.identity.updateHandle":                 true,
	"com.atproto.server.activateAccount":                true,
	"com.atproto.server.confirmEmail":                   true,
	"com.atproto.server.createAppPassword":              true,
	"com.atproto.server.deactivateAccount":              true,
	"com.atproto.server.getAccountInviteCodes":          true,
	"com.atproto.server.getSession":                     true,
	"com.atproto.server.listAppPasswords":               true,
	"com.atproto.server.requestAccountDelete":           true,
	"com.atproto.server.requestEmailConfirmation":       true,
	"com.atproto.server.requestEmailUpdate":             true,
	"com.atproto.server.revokeAppPassword":              true,
	"com.atproto.server.updateEmail":                    true,
}

func validAudience(aud string) bool {
	did, fragment, isRef := strings.Cut(aud, "#")
	return (plcDID.MatchString(did) || webDID.MatchString(did)) && (!isRef || didRef.MatchString(fragment))
}

// getServiceAuth signs a token with which the account is known to another service.
func (n *Net) getServiceAuth(w http.ResponseWriter, r *http.Request) error {
	claims, err := n.bearer(r, typeAccess, scopeAccess, scopeAppPrivileged, scopeAppPass)
	if err != nil {
		return err
	}
	aud, lxm := r.URL.Query().Get("aud"), r.URL.Query().Get("lxm")
	if !validAudience(aud) {
		return pds.InvalidRequest("aud must be a valid atproto DID or did#serviceId reference")
	}
	var method *syntax.NSID
	if lxm != "" {
		nsid, err := syntax.ParseNSID(lxm)
		if err != nil {
			return pds.InvalidRequest("lxm must be an NSID")
		}
		method = &nsid
	}
	if claims.Scope == scopeAppPass && (strings.HasPrefix(lxm, "chat.bsky.") || lxm == "com.atproto.server.createAccount") {
		return pds.InvalidRequest("insufficient access to request a service auth token for the following method: %s", lxm)
	}
	ttl, err := serviceTokenTTL(r.URL.Query().Get("exp"), lxm != "")
	if err != nil {
		return err
	}
	if protectedMethods[lxm] {
		return pds.InvalidRequest("cannot request a service auth token for the following protected method: %s", lxm)
	}
	did := syntax.DID(claims.Subject)
	key, err := n.engine.SigningKey(r.Context(), did)
	if err != nil {
		return err
	}
	token, err := auth.SignServiceAuth(did, aud, ttl, method, key)
	if err != nil {
		return err
	}
	pds.WriteJSON(w, http.StatusOK, map[string]string{"token": token})
	return nil
}

// serviceTokenTTL is one minute, or until exp (Unix seconds): at most an hour, and a minute for tokens for any method.
func serviceTokenTTL(exp string, hasMethod bool) (time.Duration, error) {
	if exp == "" {
		return time.Minute, nil
	}
	at, err := strconv.ParseInt(exp, 10, 64)
	if err != nil {
		return 0, pds.InvalidRequest("exp must be Unix seconds")
	}
	ttl := time.Until(time.Unix(at, 0))
	switch {
	case ttl < 0:
		return 0, badToken("BadExpiration", "expiration is in past")
	case ttl > time.Hour:
		return 0, badToken("BadExpiration", "cannot request a token with an expiration more than an hour in the future")
	case !hasMethod && ttl > time.Minute:
		return 0, badToken("BadExpiration", "cannot request a method-less token with an expiration more than a minute in the future")
	}
	return ttl, nil
}
