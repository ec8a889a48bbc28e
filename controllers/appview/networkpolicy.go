package appview

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// networkPolicy says with whom the server's pods may talk, before there are any. It follows HoldLinks, the PostgreSQL's
// Secret, and the Services that these name.
func (r *Reconciler) networkPolicy(ctx context.Context, sc *scope) error {
	live := &networkingv1.NetworkPolicy{}
	if sc.appView.Spec.NetworkPolicy.Mode != v1alpha1.Enabled {
		return refusal(r.withdraw(ctx, sc, "NetworkPolicy", r.client.Get, live), "spec.networkPolicy")
	}
	if sc.settings.PostgreSQL() && sc.databasePlace == "" {
		return nil // not known now: the one that there is stays
	}
	var to []render.Destination
	for _, p := range sc.places() {
		d, again, err := r.destination(ctx, sc.appView.Namespace, p)
		if err != nil {
			return err
		}
		sc.again(again)
		to = append(to, d)
	}
	want := render.NetworkPolicy(sc.appView, r.options.Operator, r.monitored(ctx, sc), to)
	return refusal(apply.Apply(ctx, r.applier, want, live, sc.mayWrite), "spec.networkPolicy")
}

// place is a host and port that the server connects to.
type place struct {
	host string
	port int32
}

// places are those of holds, of the database, and of spec.identity.
func (sc *scope) places() []place {
	var out []place
	origins := slices.Clone(sc.holdEndpoints)
	if host, web := strings.CutPrefix(sc.defaultDID(), "did:web:"); web {
		origins = append(origins, "https://"+strings.ReplaceAll(host, "%3A", ":"))
	}
	for _, o := range append(origins, string(sc.appView.Spec.Identity.PLCURL), string(sc.appView.Spec.Identity.HandleResolverURL)) {
		if u, err := url.Parse(o); err == nil && u.Hostname() != "" {
			def := "443"
			if u.Scheme == "http" {
				def = "80"
			}
			out = append(out, placeOf(u.Hostname(), cmp.Or(u.Port(), def)))
		}
	}
	return append(out, databasePlaces(sc.databasePlace)...)
}

// databasePlaces reads the hosts of a [names.DatabasePlace], of which there may be several.
func databasePlaces(uri string) []place {
	const standard = "5432"
	_, rest, _ := strings.Cut(uri, "://")
	hosts, query, _ := strings.Cut(rest, "?")
	hosts, _, _ = strings.Cut(hosts, "/")
	values, _ := url.ParseQuery(query)
	if h := values.Get("host"); h != "" {
		hosts = h
	}
	var out []place
	for _, h := range strings.Split(hosts, ",") {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = strings.Trim(h, "[]"), cmp.Or(values.Get("port"), standard)
		}
		if host != "" && !strings.HasPrefix(host, "/") {
			out = append(out, placeOf(host, port))
		}
	}
	return out
}

func placeOf(host, port string) place {
	n, _ := strconv.ParseUint(port, 10, 16)
	return place{strings.ToLower(host), int32(n)}
}

// destination is what a network policy sees of a place, and when to look again.
func (r *Reconciler) destination(ctx context.Context, namespace string, p place) (render.Destination, time.Duration, error) {
	port := []intstr.IntOrString{intstr.FromInt32(p.port)}
	if addr, err := netip.ParseAddr(p.host); err == nil {
		addr = addr.Unmap().WithZone("")
		return render.Destination{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Ports: port}, 0, nil
	}
	key, ok := serviceNamed(p.host, namespace, cmp.Or(r.options.Defaults.ClusterDomain, "cluster.local"))
	if !ok {
		return render.Destination{Ports: port}, 0, nil
	}
	svc, again, err := r.services.get(ctx, key)
	if err != nil {
		return render.Destination{}, 0, err
	}
	if svc == nil {
		return render.Destination{Ports: port}, again, nil
	}
	for _, sp := range svc.Spec.Ports {
		if sp.Port == p.port && sp.TargetPort != (intstr.IntOrString{}) {
			if svc.Spec.ClusterIP != corev1.ClusterIPNone && len(svc.Spec.Selector) > 0 {
				port = nil
			}
			port = append(port, sp.TargetPort)
		}
	}
	d := render.Destination{Ports: port}
	if len(svc.Spec.Selector) > 0 {
		d.Pods = &render.Peer{Namespace: svc.Namespace, Labels: svc.Spec.Selector}
	}
	return d, again, nil
}

// serviceNamed is the Service that a host name in a pod's search path may be.
func serviceNamed(host, namespace, domain string) (client.ObjectKey, bool) {
	host = strings.TrimSuffix(strings.TrimSuffix(host, "."), "."+domain)
	switch parts := strings.Split(host, "."); {
	case len(parts) == 1:
		return client.ObjectKey{Namespace: namespace, Name: parts[0]}, true
	case len(parts) == 2, len(parts) == 3 && parts[2] == "svc":
		return client.ObjectKey{Namespace: parts[1], Name: parts[0]}, true
	}
	return client.ObjectKey{}, false
}

// services reads Services of others, each at most once in servicesEvery: they are not in the cache.
type services struct {
	live client.Reader
	now  func() time.Time

	mu   sync.Mutex
	seen map[client.ObjectKey]seenService
}

type seenService struct {
	service *corev1.Service // nil: none, or none that may be read
	until   time.Time
}

// servicesEvery is how old what is known of a Service may become. One that comes later is no hurry: until then its port is
// open everywhere.
const servicesEvery = 10 * time.Minute

// get returns nil for a Service that is not there or that the operator may not read.
func (s *services) get(ctx context.Context, key client.ObjectKey) (*corev1.Service, time.Duration, error) {
	now := s.now()
	s.mu.Lock()
	known, ok := s.seen[key]
	s.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.service, known.until.Sub(now), nil
	}
	svc := &corev1.Service{}
	switch err := s.live.Get(ctx, key, svc); {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		known = seenService{nil, now.Add(servicesEvery)}
	case err != nil:
		return nil, 0, fmt.Errorf("reading Service %s: %w", key, err)
	default:
		known = seenService{svc, now.Add(servicesEvery)}
	}
	s.mu.Lock()
	s.seen[key] = known
	s.mu.Unlock()
	return known.service, known.until.Sub(now), nil
}
