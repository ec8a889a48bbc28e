package diddoc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRawAndEncodedPortsAreOneDID(t *testing.T) {
	for _, in := range []string{"did:web:127.0.0.1:8080", "did:web:127.0.0.1%3A8080", "did:web:127.0.0.1%3a8080"} {
		got, err := CanonicalWebDID(in)
		require.NoError(t, err, in)
		require.Equal(t, "did:web:127.0.0.1%3A8080", got)
	}
	w, err := ParseWebDID("did:web:Hold.Example.COM")
	require.NoError(t, err)
	require.Equal(t, WebDID{Host: "hold.example.com"}, w)
	require.Equal(t, "did:web:hold.example.com", w.String())
}

func TestWhatIsNotAHostAndPortIsRefused(t *testing.T) {
	for _, in := range []string{
		"", "did:web:", "did:plc:abc", "did:web:host:path", "did:web:host:8080:path", "did:web:host%3A8080%2Fx",
		"did:web:host%2Fpath", "did:web:host:0", "did:web:host:65536", "did:web:host:+80", "did:web:host:080", "did:web:host:",
		"did:web:-host", "did:web:host-", "did:web:a..b", "did:web:host.", "did:web:[::1]", "did:web:user@host",
		"did:web:127.1", "did:web:0x7f.0.0.1", "did:web:2130706433", "did:web:1.2.3.4.5", "did:web:under_score",
		"did:web:" + strings.Repeat("a", 64), "did:web:h\x00st", "did:web:höst",
	} {
		_, err := ParseWebDID(in)
		require.Error(t, err, in)
	}
}

func TestLocalHostsAreLoopbackOrWithoutADot(t *testing.T) {
	for did, local := range map[string]bool{
		"did:web:localhost%3A8080": true, "did:web:127.0.0.1": true, "did:web:atcr-hold:8080": true,
		"did:web:10.0.0.1": false, "did:web:hold.example.com": false, "did:web:localhost.example.com": false,
	} {
		w, err := ParseWebDID(did)
		require.NoError(t, err)
		require.Equal(t, local, w.Local(), did)
	}
}

func FuzzParseWebDID(f *testing.F) {
	for _, s := range []string{"did:web:localhost%3A8080", "did:web:a.b:1", "did:web:127.0.0.1", "did:web:a%2Fb", "did:web:%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWebDID(s)
		if err != nil {
			return
		}
		again, err := ParseWebDID(w.String())
		require.NoError(t, err)
		require.Equal(t, w, again, "a canonical DID is its own canonical form")
		require.NotContains(t, w.HostPort(), "/")
		require.NotContains(t, w.HostPort(), "@")
		_, err = CleanEndpoint("https://" + w.HostPort())
		require.NoError(t, err)
	})
}
