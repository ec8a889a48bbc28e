// Package network tells clients apart that do not say who they are.
package network

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Of is where a request comes from, coarsely: a /24, or a /48 of IPv6. A proxy inside the cluster says where in
// X-Forwarded-For; from anybody else the header is not believed.
func Of(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	ip = ip.Unmap()
	if ip.IsPrivate() || ip.IsLoopback() {
		all := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
		last := strings.TrimSpace(all[strings.LastIndexByte(all, ',')+1:])
		if by, err := netip.ParseAddr(last); err == nil {
			ip = by.Unmap()
		}
	}
	bits := 24
	if ip.Is6() {
		bits = 48
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}
