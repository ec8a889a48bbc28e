package diddoc

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a strict policy lets a client be sent to is a name, or a public address.
func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"https://a.example.com/x?y=z", "https://127.0.0.1", "http://[::1%25lo]:80/", "https://0x7f.1/", "https://user@h/", "https://[::ffff:a00:1]/",
		"https://h:99999/", "https://LOCALHOST./", "https://xn--e1a.example/", "https://a_b.example/", "https://1.1.1.1./"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil || (Policy{}).CheckURL(u) != nil {
			return
		}
		require.Contains(t, []string{"http", "https"}, u.Scheme)
		require.Nil(t, u.User)
		host := strings.TrimSuffix(u.Hostname(), ".")
		if addr, err := netip.ParseAddr(host); err == nil {
			require.Equal(t, public, kindOf(addr), s)
			return
		}
		require.NoError(t, ValidateHost(strings.ToLower(host)), s)
		require.NotEqual(t, "localhost", strings.ToLower(host))
	})
}

func FuzzCleanEndpoint(f *testing.F) {
	for _, s := range []string{"https://a.example.com", "http://10.0.0.1:8080/", "https://a/b", "https://u:p@a", "https://a?x", "https://a#b", "https://[::1]:5", "HTTPS://A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		clean, err := CleanEndpoint(s)
		if err != nil {
			require.Less(t, len(err.Error()), 600)
			return
		}
		again, err := CleanEndpoint(clean)
		require.NoError(t, err)
		require.Equal(t, clean, again)
		u, err := url.Parse(clean + WellKnown)
		require.NoError(t, err)
		require.Equal(t, WellKnown, u.Path, "whatever is appended stays the path")
		require.Nil(t, u.User)
	})
}
