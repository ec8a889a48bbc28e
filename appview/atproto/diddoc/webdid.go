package diddoc

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// WebDID is a did:web without a path: a host name or an IPv4 address, and a port when the DID names one.
type WebDID struct {
	Host string // lower case
	Port int    // 0: none, the scheme's default
}

// ParseWebDID reads did:web:host, did:web:host%3A8080 and the raw-port form did:web:host:8080 that ATCR's own
// documentation uses. Paths, IPv6 literals, userinfo and trailing dots are refused: atproto has no use for them.
func ParseWebDID(did string) (WebDID, error) {
	rest, ok := strings.CutPrefix(did, "did:web:")
	if !ok {
		return WebDID{}, fmt.Errorf("%.80q is not a did:web", did)
	}
	host, port := rest, ""
	if i := strings.IndexAny(rest, ":%"); i >= 0 {
		host = rest[:i]
		switch tail := rest[i:]; {
		case tail[0] == ':':
			port = tail[1:]
		case len(tail) >= 3 && strings.EqualFold(tail[:3], "%3a"):
			port = tail[3:]
		default:
			return WebDID{}, fmt.Errorf("%.80q: only a port may follow the host, as %%3A8080", did)
		}
		if port == "" {
			return WebDID{}, fmt.Errorf("%.80q: the port is empty", did)
		}
	}
	host = strings.ToLower(host)
	if err := ValidateHost(host); err != nil {
		return WebDID{}, fmt.Errorf("%.80q: %w", did, err)
	}
	w := WebDID{Host: host}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return WebDID{}, fmt.Errorf("%.80q: only a port from 1 to 65535 may follow the host; paths are not supported", did)
		}
		w.Port = int(n)
	}
	return w, nil
}

// CanonicalWebDID is did in its canonical spelling: lower-case host, port as %3A8080.
func CanonicalWebDID(did string) (string, error) {
	w, err := ParseWebDID(did)
	if err != nil {
		return "", err
	}
	return w.String(), nil
}

// Canonical is the canonical spelling of a did:web, and any other DID as it is.
func Canonical(did string) string {
	if c, err := CanonicalWebDID(did); err == nil {
		return c
	}
	return did
}

// String is the canonical DID.
func (w WebDID) String() string {
	if w.Port == 0 {
		return "did:web:" + w.Host
	}
	return "did:web:" + w.Host + "%3A" + strconv.Itoa(w.Port)
}

// HostPort is host or host:port, as in a URL.
func (w WebDID) HostPort() string {
	if w.Port == 0 {
		return w.Host
	}
	return w.Host + ":" + strconv.Itoa(w.Port)
}

// Local says whether the host is one that TEST_MODE may reach over plain HTTP: a loopback address or a name
// without a dot, such as localhost or a service of Docker Compose.
func (w WebDID) Local() bool { return localHost(w.Host) }

func localHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return host != "" && !strings.Contains(host, ".")
}

// ValidateHost accepts a lower-case DNS name of at most 253 bytes or a dotted IPv4 address. A name whose last label
// is a number must be such an address: 127.1 and 0x7f.0.0.1 are addresses in disguise to some resolvers.
func ValidateHost(host string) error {
	if host == "" || len(host) > 253 {
		return fmt.Errorf("host %.80q is empty or longer than 253 bytes", host)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return nil
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return fmt.Errorf("host %.80q: each part has 1 to 63 bytes and neither starts nor ends with a hyphen", host)
		}
		for _, c := range []byte(l) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return fmt.Errorf("host %.80q: only a-z, 0-9, hyphens and dots", host)
			}
		}
	}
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		return fmt.Errorf("host %.80q is neither a DNS name nor an IPv4 address", host)
	}
	return nil
}
