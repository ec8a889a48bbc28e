package auth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheRealmFollowsOnlyHostsThatWereConfigured(t *testing.T) {
	c := &Challenger{BaseURL: "https://registry.test", Service: testService, AllowedHosts: func() []string { return []string{"atcr.svc:5000", "127.0.0.1:5000", "kubernetes.svc:5000"} }}
	for _, x := range []struct{ host, proto, want string }{
		{"registry.test", "", "https://registry.test"},
		{"REGISTRY.test", "", "https://registry.test"},
		{"atcr.svc:5000", "", "http://atcr.svc:5000"},
		{"ATCR.svc:5000", "https", "https://atcr.svc:5000"},
		{"evil.example.com", "", "https://registry.test"},
		{"atcr.svc", "", "https://registry.test"},
		{"atcr.svc:5000.evil.example.com", "", "https://registry.test"},
		{"", "", "https://registry.test"},
		// The port counts, and so does every byte of what somebody sends as Host.
		{"registry.test:443", "https", "https://registry.test"},
		{"atcr.svc:80", "", "https://registry.test"},
		{"atcr.svc:50000", "", "https://registry.test"},
		{"127.0.0.1:5000", "", "http://127.0.0.1:5000"},
		{"127.0.0.1", "", "https://registry.test"},
		{"0x7f.1:5000", "", "https://registry.test"},
		{"atcr.svc.:5000", "", "https://registry.test"},
		{"evil@atcr.svc:5000", "", "https://registry.test"},
		{"atcr.svc:5000@evil.example.com", "", "https://registry.test"},
		{"evil.example.com#atcr.svc:5000", "", "https://registry.test"},
		{"evil.example.com?atcr.svc:5000", "", "https://registry.test"},
		{"evil.example.com/atcr.svc:5000", "", "https://registry.test"},
		{"atcr.svc:5000,evil.example.com", "", "https://registry.test"},
		{" atcr.svc:5000", "", "https://registry.test"},
		{"atcr.svc:5000\r\nX: y", "", "https://registry.test"},
		{`atcr.svc:5000",service="evil`, "", "https://registry.test"},
		{"Kubernetes.svc:5000", "", "https://registry.test"},
		// Only the word https makes https: a proxy's list or another scheme does not end up in a URL.
		{"atcr.svc:5000", "HTTPS", "https://atcr.svc:5000"},
		{"atcr.svc:5000", "https, http", "http://atcr.svc:5000"},
		{"atcr.svc:5000", "javascript", "http://atcr.svc:5000"},
		{"atcr.svc:5000", "https://evil.example.com/", "http://atcr.svc:5000"},
		{"evil.example.com", "https", "https://registry.test"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.Host = x.host
		r.Header.Set("X-Forwarded-Host", "evil.example.com")
		r.Header.Set("Forwarded", "host=evil.example.com;proto=https")
		if x.proto != "" {
			r.Header.Set("X-Forwarded-Proto", x.proto)
		}
		w := httptest.NewRecorder()
		c.Challenge(w, r, "repository:a.test/x:pull", "invalid_token")
		require.Equal(t, fmt.Sprintf(`Bearer realm="%s/auth/token",service="registry.test",scope="repository:a.test/x:pull",error="invalid_token"`, x.want), w.Header().Get("WWW-Authenticate"))
	}
	w := httptest.NewRecorder()
	c.Challenge(w, httptest.NewRequest(http.MethodGet, "/v2/", nil), "a\"b\r\nX: y", "")
	require.NotContains(t, w.Header().Get("WWW-Authenticate"), "\n")
	require.Equal(t, 6, strings.Count(w.Header().Get("WWW-Authenticate"), `"`))
}

// Whoever sets Host or X-Forwarded-Proto chooses nothing but one of the names that were configured.
func FuzzChallenge(f *testing.F) {
	for _, s := range [][4]string{{"registry.test", "", "repository:a/b:pull", ""}, {"evil.example.com", "https", "x", "invalid_token"},
		{"atcr.svc:5000", "javascript", `a"b`, "\r\n"}, {"ATCR.SVC:5000", "HTTPS", "", ""}, {"atcr.svc:5000\r\nX: y", "https,http", "\\", ""}, {"\u017fvc", "", "", ""}} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	c := &Challenger{BaseURL: "https://registry.test", Service: testService, AllowedHosts: func() []string { return []string{"atcr.svc:5000"} }}
	realms := []string{"https://registry.test/auth/token", "http://atcr.svc:5000/auth/token", "https://atcr.svc:5000/auth/token"}
	f.Fuzz(func(t *testing.T, host, proto, scope, reason string) {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.Host = host
		r.Header.Set("X-Forwarded-Proto", proto)
		r.Header.Set("X-Forwarded-Host", host)
		w := httptest.NewRecorder()
		c.Challenge(w, r, scope, reason)
		require.Contains(t, realms, c.Realm(r))
		got := w.Header().Get("WWW-Authenticate")
		require.True(t, strings.HasPrefix(got, `Bearer realm="`+c.Realm(r)+`",service="registry.test"`), got)
		require.Zero(t, strings.Count(got, `"`)%2, got)
		require.LessOrEqual(t, strings.Count(got, `"`), 8, "a scope cannot add a parameter: %s", got)
		require.NotContains(t, got, "\r")
		require.NotContains(t, got, "\n")
	})
}

// A user name with colons is put together again, or left alone: no part of a secret becomes part of a name.
func FuzzBasicDID(f *testing.F) {
	f.Add("alice.test", "pw")
	f.Add("did", "plc:abc:pw:with:colons")
	f.Add("did", "web:localhost:8080:pw")
	f.Add("did", "web:h:pw")
	f.Add("did", "key:z:pw")
	f.Fuzz(func(t *testing.T, user, password string) {
		u, p, ok := basicDID(user, password, true)
		require.True(t, ok)
		require.Equal(t, user+":"+password, u+":"+p, "nothing is lost and nothing is added")
		if strings.Contains(user, ":") {
			require.Equal(t, user, u)
		}
	})
}
