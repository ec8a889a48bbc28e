package network

import (
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func from(remote string, forwarded ...string) *http.Request {
	return &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": forwarded}}
}

func TestWhereARequestComesFrom(t *testing.T) {
	for _, c := range []struct {
		request *http.Request
		want    string
	}{
		{from("203.0.113.7:1234"), "203.0.113.0/24"},
		{from("203.0.113.200:9"), "203.0.113.0/24"},
		{from("[2001:db8:1:2::3]:1"), "2001:db8:1::/48"},
		{from("[::ffff:203.0.113.7]:1"), "203.0.113.0/24"},
		{from("[fe80::1%eth0]:1"), "fe80::/48"},
		{from("203.0.113.7:1", "198.51.100.1"), "203.0.113.0/24"}, // somebody on the internet says who he is
		{from("10.0.0.1:1", "198.51.100.1"), "198.51.100.0/24"},
		{from("10.0.0.1:1", "192.0.2.1, 198.51.100.1"), "198.51.100.0/24"}, // the first is what the client said
		{from("10.0.0.1:1", "192.0.2.1", "198.51.100.1"), "198.51.100.0/24"},
		{from("10.0.0.1:1", "198.51.100.1, unknown"), "10.0.0.0/24"},
		{from("127.0.0.1:1"), "127.0.0.0/24"},
		{from("@"), ""},
	} {
		require.Equal(t, c.want, Of(c.request), "%s %v", c.request.RemoteAddr, c.request.Header)
	}
}

// Whatever X-Forwarded-For says: from the internet it counts for nothing, and the answer is a network or nothing.
func FuzzOf(f *testing.F) {
	f.Add("203.0.113.7:1", "198.51.100.1")
	f.Add("10.0.0.1:1", "a, b,, 198.51.100.1 ")
	f.Add("[::1]:1", "::ffff:10.0.0.1%x")
	f.Add("127.0.0.1", "\x00,\xff")
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		got := Of(from(remote, forwarded))
		if got == "" {
			return
		}
		prefix, err := netip.ParsePrefix(got)
		require.NoError(t, err)
		require.Equal(t, prefix.Masked(), prefix)
		require.Contains(t, []int{24, 48}, prefix.Bits())
		if Of(from(remote)) != got {
			host, _, err := net.SplitHostPort(remote)
			if err != nil {
				host = remote
			}
			ip := netip.MustParseAddr(host).Unmap()
			require.True(t, ip.IsPrivate() || ip.IsLoopback(), "%s is no proxy of ours, and was believed", remote)
		}
	})
}
