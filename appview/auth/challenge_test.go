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
	c := &Challenger{BaseURL: "https://registry.test", Service: testService, AllowedHosts: func() []string { return []string{"atcr.svc:5000", "127.0.0.1:5000"} }}
	for _, x := range []struct{ host, proto, want string }{
		{"registry.test", "", "https://registry.test"},
		{"REGISTRY.test", "", "https://registry.test"},
		{"atcr.svc:5000", "", "http://atcr.svc:5000"},
		{"ATCR.svc:5000", "https", "https://atcr.svc:5000"},
		{"evil.example.com", "", "https://registry.test"},
		{"atcr.svc", "", "https://registry.test"},
		{"atcr.svc:5000.evil.example.com", "", "https://registry.test"},
		{"", "", "https://registry.test"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.Host = x.host
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
