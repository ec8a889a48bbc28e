package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// TokenPath is where tokens are issued.
const TokenPath = "/auth/token"

// Challenger builds the WWW-Authenticate header of a 401.
type Challenger struct {
	BaseURL string // ATCR_BASE_URL, without a trailing slash
	Service string
	// AllowedHosts are Host values besides the base URL's for which the realm follows the request, so that a node
	// or a pod that reaches the server under another name gets its token under that name too. Called per request.
	AllowedHosts func() []string
}

// Challenge sets WWW-Authenticate for a scope such as repository:alice.test/app:pull,push; empty for /v2/. reason is
// empty, or invalid_token or insufficient_scope (RFC 6750). The caller writes the status and body.
func (c *Challenger) Challenge(w http.ResponseWriter, r *http.Request, scope, reason string) {
	var b strings.Builder
	b.WriteString(`Bearer realm="` + quote(c.Realm(r)) + `",service="` + quote(c.Service) + `"`)
	if scope != "" {
		b.WriteString(`,scope="` + quote(scope) + `"`)
	}
	if reason != "" {
		b.WriteString(`,error="` + quote(reason) + `"`)
	}
	w.Header().Set("WWW-Authenticate", b.String())
}

// Realm is the token URL for a request. A Host that nobody configured gets the base URL: whoever can set a Host
// must not be able to send credentials elsewhere.
func (c *Challenger) Realm(r *http.Request) string {
	base, err := url.Parse(c.BaseURL)
	if err != nil || r.Host == "" || sameHost(r.Host, base.Host) {
		return c.BaseURL + TokenPath
	}
	if c.AllowedHosts == nil {
		return c.BaseURL + TokenPath
	}
	for _, h := range c.AllowedHosts() {
		if sameHost(h, r.Host) {
			return scheme(r) + "://" + h + TokenPath
		}
	}
	return c.BaseURL + TokenPath
}

// sameHost compares host and port without the case of ASCII letters; folding takes K (the Kelvin sign) for k, which is
// longer.
func sameHost(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

func scheme(r *http.Request) string {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "https"
	}
	return "http"
}

func quote(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return -1
		}
		return c
	}, s)
}
