package holdlink

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// apiServers knows the addresses of the cluster's API servers: nobody has the operator call them, whatever is allowed.
type apiServers struct {
	host   string        // as the operator itself calls them: a URL, or host:port
	slices client.Reader // for those behind Service kubernetes
	now    func() time.Time

	mu    sync.Mutex
	known []netip.AddrPort
	until time.Time
}

// are says whether to is one of them.
func (a *apiServers) are(to netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.known, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
}

// refresh reads them again once an hour. What cannot be read leaves what is known.
func (a *apiServers) refresh(ctx context.Context) {
	a.mu.Lock()
	fresh := a.now().Before(a.until)
	a.mu.Unlock()
	if fresh {
		return
	}
	found := a.called(ctx)
	behind := &discoveryv1.EndpointSlice{}
	if err := a.slices.Get(ctx, client.ObjectKey{Namespace: "default", Name: "kubernetes"}, behind); err != nil {
		log.FromContext(ctx).V(1).Info("the API servers behind Service kubernetes are not known", "error", err.Error())
	}
	for _, e := range behind.Endpoints {
		for _, ip := range e.Addresses {
			for _, p := range behind.Ports {
				if addr, err := netip.ParseAddr(ip); err == nil && p.Port != nil {
					found = append(found, netip.AddrPortFrom(addr.Unmap(), uint16(*p.Port)))
				}
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(found) > 0 {
		a.known = found
	}
	a.until = a.now().Add(refresh)
}

// called are the addresses by which the operator calls the API server.
func (a *apiServers) called(ctx context.Context) (out []netip.AddrPort) {
	host, port := a.host, "443"
	if u, err := url.Parse(a.host); err == nil && u.Host != "" {
		if host = u.Hostname(); u.Port() != "" {
			port = u.Port()
		} else if u.Scheme == "http" {
			port = "80"
		}
	} else if h, p, err := net.SplitHostPort(a.host); err == nil {
		host, port = h, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" {
		return nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for _, addr := range addresses {
		out = append(out, netip.AddrPortFrom(addr.Unmap(), uint16(n)))
	}
	return out
}
