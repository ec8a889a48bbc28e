package diddoc

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Policy says which addresses a client may reach. The zero value reaches public addresses by HTTPS on port 443 and
// nothing else. The functions are called at each dial, so a reloaded configuration takes effect at once.
//
// Multicast, unspecified and reserved addresses are never reached. Link-local ones (cloud metadata) only when an
// allowed range lies inside the link-local range, so that 0.0.0.0/0 does not open them by accident.
type Policy struct {
	// AllowedPrivateCIDRs are ranges besides the public ones, over HTTP or HTTPS.
	AllowedPrivateCIDRs func() []netip.Prefix
	// AllowedPrivatePorts are the ports besides 80 and 443 in those ranges. None: any port.
	AllowedPrivatePorts func() []int
	// DevLoopback (TEST_MODE) opens loopback addresses, and private ones of host names without a dot.
	DevLoopback bool
	// Trusted is for endpoints that an operator configured: any port, private addresses, plain HTTP.
	Trusted bool
	// TrustedLoopback opens loopback addresses to a Trusted policy. A server that reads its own environment sets
	// it; a controller that acts for the users of a cluster does not.
	TrustedLoopback bool
	// PrivateHosts narrows what Trusted opens: private addresses of these host names only. Nil: of all.
	PrivateHosts func(host string) bool
	// Never are addresses that stay closed whatever is allowed.
	Never func(to netip.AddrPort) bool
}

// ForOperator is p for endpoints that the operator of this server configured: private addresses, any port and plain
// HTTP are allowed, and loopback when withLoopback is set.
func (p Policy) ForOperator(withLoopback bool) Policy {
	p.Trusted, p.TrustedLoopback = true, withLoopback
	return p
}

// Check says whether a connection for host, resolved to to, may be made; secure means TLS. It is called after name
// resolution and before connecting, so a name that resolves differently the second time gains nothing.
func (p Policy) Check(host string, to netip.AddrPort, secure bool) error {
	addr := plain(to.Addr())
	k, port := kindOf(addr), int(to.Port())
	if p.Never != nil && p.Never(netip.AddrPortFrom(addr, to.Port())) {
		return blocked("address %s is never called", to)
	}
	switch k {
	case never:
		return blocked("address %s is not one that a server can have", to.Addr())
	case public:
		if p.Trusted {
			return nil
		}
		if !secure {
			return blocked("plain HTTP to the public address %s is refused; the endpoint must use https", to.Addr())
		}
		if port != 443 {
			return blocked("port %d of the public address %s is refused; only 443 is reached", port, to.Addr())
		}
		return nil
	}
	if p.inAllowedRange(addr, k) {
		if ports := call(p.AllowedPrivatePorts); port == 80 || port == 443 || len(ports) == 0 || slices.Contains(ports, port) {
			return nil
		}
		return blocked("port %d of the private address %s is not an allowed private port", port, to.Addr())
	}
	switch {
	case k == loopback && (p.DevLoopback || p.Trusted && p.TrustedLoopback):
		return nil
	case k == private && (p.Trusted && (p.PrivateHosts == nil || p.PrivateHosts(host)) || p.DevLoopback && localHost(host)):
		return nil
	case k == linkLocal:
		return blocked("link-local address %s is refused unless a link-local range is allowed explicitly", to.Addr())
	}
	return blocked("private address %s is in no allowed private range", to.Addr())
}

// CheckURL says whether a client of ours may be sent to a URL that a stranger chose: one that names, in whatever
// spelling, an address which p does not reach, or the client's own machine, is refused. Names are not resolved: they
// may mean something else where the client is.
func (p Policy) CheckURL(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return blocked("want http(s)://host without user information")
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil:
	case host == "localhost", strings.HasSuffix(host, ".localhost"):
		addr = netip.MustParseAddr("127.0.0.1")
	default:
		if err := ValidateHost(host); err != nil {
			return blocked("%s", err)
		}
		return nil
	}
	port, secure := uint16(443), u.Scheme == "https"
	if !secure {
		port = 80
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return blocked("port %.10q is not a port", u.Port())
		}
		port = uint16(n)
	}
	if kindOf(addr) == public {
		return nil // what a client may reach on the internet is its own affair
	}
	return p.Check(host, netip.AddrPortFrom(addr, port), secure)
}

func (p Policy) inAllowedRange(addr netip.Addr, k kind) bool {
	for _, allowed := range call(p.AllowedPrivateCIDRs) {
		if !allowed.Contains(addr) {
			continue
		}
		if k != linkLocal || kindOf(allowed.Masked().Addr()) == linkLocal {
			return true
		}
	}
	return false
}

func call[T any](f func() []T) []T {
	if f == nil {
		return nil
	}
	return f()
}
