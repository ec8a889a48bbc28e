package diddoc

import "net/netip"

// kind is what an address is to the guard.
type kind int

const (
	public    kind = iota
	private        // inside somebody's network: RFC 1918, CGNAT, unique local, and ranges that no public host has
	loopback       // this machine
	linkLocal      // the neighbors, and the metadata services of clouds
	never          // multicast, unspecified, reserved: no server lives there
)

var ranges = []struct {
	kind   kind
	prefix netip.Prefix
}{
	{never, netip.MustParsePrefix("0.0.0.0/8")},
	{never, netip.MustParsePrefix("224.0.0.0/4")},
	{never, netip.MustParsePrefix("240.0.0.0/4")},
	{never, netip.MustParsePrefix("::/128")},
	{never, netip.MustParsePrefix("ff00::/8")},
	{loopback, netip.MustParsePrefix("127.0.0.0/8")},
	{loopback, netip.MustParsePrefix("::1/128")},
	{linkLocal, netip.MustParsePrefix("169.254.0.0/16")},
	{linkLocal, netip.MustParsePrefix("fe80::/10")},
	{private, netip.MustParsePrefix("10.0.0.0/8")},
	{private, netip.MustParsePrefix("100.64.0.0/10")},
	{private, netip.MustParsePrefix("172.16.0.0/12")},
	{private, netip.MustParsePrefix("192.0.0.0/24")},
	{private, netip.MustParsePrefix("192.0.2.0/24")},
	{private, netip.MustParsePrefix("192.88.99.0/24")},
	{private, netip.MustParsePrefix("192.168.0.0/16")},
	{private, netip.MustParsePrefix("198.18.0.0/15")},
	{private, netip.MustParsePrefix("198.51.100.0/24")},
	{private, netip.MustParsePrefix("203.0.113.0/24")},
	{private, netip.MustParsePrefix("fc00::/7")},
	{private, netip.MustParsePrefix("fec0::/10")},
	{private, netip.MustParsePrefix("64:ff9b:1::/48")},
	{private, netip.MustParsePrefix("100::/64")},
	{private, netip.MustParsePrefix("2001::/23")}, // Teredo among others
	{private, netip.MustParsePrefix("2001:db8::/32")},
	{private, netip.MustParsePrefix("5f00::/16")},
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)

// plain is the address that a packet to a really reaches: the IPv4 address inside an IPv4-mapped, IPv4-compatible,
// NAT64 or 6to4 address, else a itself.
func plain(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() || kindOfExact(a) != public {
		return a
	}
	b := a.As16()
	switch {
	case nat64.Contains(a), compatible.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

func kindOf(a netip.Addr) kind { return kindOfExact(plain(a)) }

func kindOfExact(a netip.Addr) kind {
	for _, r := range ranges {
		if r.prefix.Contains(a) {
			return r.kind
		}
	}
	return public
}
