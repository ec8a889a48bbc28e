package holdlink

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/controllers/internal/links"
	"atcr.io/operator/controllers/render"
)

const (
	refresh    = time.Hour       // a document that was right is read again, plus up to a tenth
	retryFirst = 2 * time.Second // after a failure, doubled each time
	retryMost  = 5 * time.Minute

	defaultPLC  = "https://plc.directory"
	maxEndpoint = 300 // bytes, as status takes them
)

// Found is the outcome of a look-up. Reason is empty when DID and Endpoint are right.
type Found struct {
	DID      string
	Endpoint string

	Reason  string
	Message string
	Passing bool // may be better next time by itself
}

// Resolver finds the DID and endpoint of holds. It remembers the outcome and says when it looks again, so that a
// reconcile in between costs no request.
type Resolver struct {
	services client.Reader // the API server: Services of users are not in the cache
	domain   string
	policy   diddoc.Policy
	now      func() time.Time

	apiServers *apiServers

	mu     sync.Mutex
	known  map[types.NamespacedName]memory
	own    map[types.NamespacedName]clients // of HoldLinks that bring certificates
	shared map[string]clients               // of the others, by namespace
}

// access is what the operator may use to call a hold: private addresses of one namespace's Services, and certificates
// besides the system's roots.
type access struct{ namespace, bundle string }

// clients are for one access.
type clients struct {
	access
	public  *http.Client // for addresses that a DID document names
	trusted *http.Client // for those that a HoldLink names: Services, any port, plain HTTP
}

type memory struct {
	from     string
	found    Found
	until    time.Time
	failures int
}

// NewResolver returns a Resolver. Loopback and link-local addresses are never called, private ones only as those of a
// Service that a HoldLink may name; allowed are ranges that are open all the same. The API server is never called.
func NewResolver(services client.Reader, clusterDomain string, allowed []netip.Prefix, apiServer string) *Resolver {
	r := &Resolver{
		services: services, domain: clusterDomain, now: time.Now,
		known: map[types.NamespacedName]memory{}, own: map[types.NamespacedName]clients{}, shared: map[string]clients{},
	}
	r.apiServers = &apiServers{host: apiServer, slices: services, now: func() time.Time { return r.now() }}
	r.policy = diddoc.Policy{AllowedPrivateCIDRs: func() []netip.Prefix { return allowed }, Never: r.apiServers.are}
	return r
}

// Client is what asks the hold of link for its health: the same that resolved it.
func (r *Resolver) Client(link *v1alpha1.HoldLink, a access) *http.Client {
	c := r.clients(links.Key(link), a)
	if link.Spec.Hold.DID != "" && link.Spec.Endpoint == "" {
		return c.public
	}
	return c.trusted
}

// clients are the same for the same HoldLink and access. Those that bring no certificates share them with their namespace.
func (r *Resolver) clients(key types.NamespacedName, a access) clients {
	r.mu.Lock()
	defer r.mu.Unlock()
	own, known := r.own[key]
	switch {
	case a.bundle == "":
		own.close()
		delete(r.own, key)
		if _, made := r.shared[a.namespace]; !made {
			r.shared[a.namespace] = r.newClients(a)
		}
		return r.shared[a.namespace]
	case !known || own.access != a:
		own.close()
		own = r.newClients(a)
		r.own[key] = own
	}
	return own
}

func (r *Resolver) newClients(a access) clients {
	var o diddoc.Options
	if a.bundle != "" {
		o.TLS = diddoc.TrustAlso([]byte(a.bundle))
	}
	return clients{a, diddoc.NewClient(r.policy, o), diddoc.NewClient(r.trusting(a.namespace), o)}
}

// trusting is the policy for what a HoldLink names: private addresses are those of a namespace's Services.
func (r *Resolver) trusting(namespace string) diddoc.Policy {
	p := r.policy.ForOperator(false)
	p.PrivateHosts = func(host string) bool {
		s, ok := r.serviceOf(host)
		return ok && s.Namespace == namespace
	}
	return p
}

func (c clients) close() {
	if c.public != nil {
		c.public.CloseIdleConnections()
		c.trusted.CloseIdleConnections()
	}
}

// Forget drops what is known of a HoldLink.
func (r *Resolver) Forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, key)
	r.own[key].close()
	delete(r.own, key)
}

// Resolve finds the hold of link, and says when to ask again.
func (r *Resolver) Resolve(ctx context.Context, key types.NamespacedName, from string, av *v1alpha1.AppView, link *v1alpha1.HoldLink, a access) (Found, time.Duration) {
	r.mu.Lock()
	m, known := r.known[key]
	r.mu.Unlock()
	now := r.now()
	plc := r.directory(av)
	from += fmt.Sprintf(" by %s\n%+v", plc.url, a) // another directory, or trust in another certificate, may know better
	if known && m.from == from && now.Before(m.until) {
		return m.found, m.until.Sub(now)
	}
	if m.from != from {
		m = memory{from: from}
	}
	r.apiServers.refresh(ctx)
	m.found = r.look(ctx, r.clients(key, a), plc, link)
	wait := refresh + rand.N(refresh/10)
	if m.found.Reason != "" {
		wait = min(retryFirst<<min(m.failures, 16), retryMost)
		m.failures++
	} else {
		m.failures = 0
	}
	m.until = now.Add(wait)
	r.mu.Lock()
	r.known[key] = m
	r.mu.Unlock()
	return m.found, wait
}

func (r *Resolver) look(ctx context.Context, c clients, plc directory, link *v1alpha1.HoldLink) Found {
	if found, refused := r.elsewhere(ctx, link, c.access); refused {
		return found
	}
	switch h := link.Spec.Hold; {
	case h.URL != "":
		return r.byURL(ctx, c, string(h.URL))
	case h.ServiceRef != nil:
		return r.byService(ctx, c, serviceNamespace(link), h.ServiceRef)
	case link.Spec.Endpoint != "":
		return r.at(ctx, c, string(h.DID), string(link.Spec.Endpoint))
	default:
		return r.byDID(ctx, c, string(h.DID), plc)
	}
}

// at asks the endpoint whether it is the hold with that DID.
func (*Resolver) at(ctx context.Context, c clients, did, endpoint string) Found {
	did = diddoc.Canonical(did)
	if _, err := diddoc.FetchWebDocument(ctx, c.trusted, did, endpoint); err != nil {
		return failed(did+" at "+endpoint, err)
	}
	clean, err := diddoc.CleanEndpoint(endpoint)
	if err != nil {
		return failed(did+" at "+endpoint, err)
	}
	return Found{DID: did, Endpoint: clean}
}

// byURL: the DID is the did:web of the URL's host.
func (r *Resolver) byURL(ctx context.Context, c clients, base string) Found {
	did, err := webDID(base)
	if err != nil {
		return Found{Reason: v1alpha1.ReasonInvalidDocument, Message: fmt.Sprintf("spec.hold.url: %v", err)}
	}
	return r.at(ctx, c, did, base)
}

// webDID is the did:web of a URL's host, without the port that the scheme has anyway.
func webDID(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("%q is no URL", base)
	}
	host := u.Host
	if p := u.Port(); p == "80" && u.Scheme == "http" || p == "443" && u.Scheme == "https" {
		host = u.Hostname()
	}
	return diddoc.CanonicalWebDID("did:web:" + host)
}

// byService: the hold in the cluster has the did:web of its Service's full name.
func (r *Resolver) byService(ctx context.Context, c clients, namespace string, ref *v1alpha1.ServiceReference) Found {
	svc := &corev1.Service{}
	err := r.services.Get(ctx, client.ObjectKey{Namespace: namespace, Name: string(ref.Name)}, svc)
	switch {
	case apierrors.IsNotFound(err):
		return Found{Passing: true, Reason: v1alpha1.ReasonServiceNotFound, Message: fmt.Sprintf(
			"spec.hold.serviceRef names Service %s, which does not exist in namespace %s: create it, or name another", ref.Name, namespace)}
	case err != nil:
		return Found{Passing: true, Reason: v1alpha1.ReasonFetchFailed, Message: "reading Service " + string(ref.Name) + ": " + string(apierrors.ReasonForError(err))}
	}
	port, ok := choosePort(svc, ref.Port)
	if !ok {
		return Found{Passing: true, Reason: v1alpha1.ReasonServiceNotFound, Message: fmt.Sprintf(
			"Service %s has no port %d: set spec.hold.serviceRef.port to one of its ports", ref.Name, port)}
	}
	scheme := cmp.Or(ref.Scheme, "http")
	base := scheme + "://" + render.ServiceHosts(svc.Name, namespace, r.domain)[0]
	if own := map[string]int32{"http": 80, "https": 443}; port != own[scheme] {
		base += fmt.Sprintf(":%d", port)
	}
	found := r.byURL(ctx, c, base)
	if found.Reason == v1alpha1.ReasonDIDMismatch {
		found.Message += ". A hold with another public name: use hold.did with endpoint: " + base
	}
	return found
}

// choosePort is the port that was asked for, the only one, or 80.
func choosePort(svc *corev1.Service, asked int32) (int32, bool) {
	if asked == 0 && len(svc.Spec.Ports) == 1 {
		return svc.Spec.Ports[0].Port, true
	}
	want := cmp.Or(asked, 80)
	for _, p := range svc.Spec.Ports {
		if p.Port == want {
			return want, true
		}
	}
	return want, false
}

// byDID reads the DID document where the DID's method says, and takes the hold's endpoint from it.
func (r *Resolver) byDID(ctx context.Context, c clients, did string, plc directory) Found {
	did = diddoc.Canonical(did)
	doc, err := r.document(ctx, c, did, plc)
	if err != nil {
		return failed(did, err)
	}
	endpoint, err := diddoc.HoldEndpoint(doc)
	if err != nil {
		return failed(did, err)
	}
	if len(endpoint) > maxEndpoint {
		return Found{Reason: v1alpha1.ReasonInvalidDocument, Message: fmt.Sprintf(
			"the DID document of %s names an endpoint of more than %d bytes: name the hold's endpoint in spec.endpoint", did, maxEndpoint)}
	}
	return Found{DID: did, Endpoint: endpoint}
}

// failed says why the DID document of what, a DID and perhaps an endpoint, was not taken, and what helps.
func failed(what string, err error) Found {
	f := Found{Reason: v1alpha1.ReasonFetchFailed, Passing: true}
	remedy := "It is tried again; is the hold running, and can the operator reach it?"
	if strings.HasPrefix(what, "did:plc:") {
		remedy = "It is tried again; can the operator reach the PLC directory (spec.identity.plcURL of the AppView)?"
	}
	switch diddoc.Class(err) {
	case diddoc.ClassBlockedAddress:
		f.Reason, f.Passing = v1alpha1.ReasonBlockedAddress, false
		remedy = "Allow the range with the operator's --allow-private-holds"
		if !strings.HasPrefix(what, "did:plc:") || strings.Contains(what, " at ") {
			remedy = "Name a Service of the HoldLink's namespace (NAME.NAMESPACE.svc), or allow the range with the operator's --allow-private-holds"
		}
	case diddoc.ClassDIDMismatch:
		f.Reason, f.Passing = v1alpha1.ReasonDIDMismatch, false
		remedy = "The DID in spec.hold and the hold's public URL must name the same host"
	case diddoc.ClassInvalidDocument:
		f.Reason, f.Passing = v1alpha1.ReasonInvalidDocument, false
		remedy = "The address must be a hold's"
	}
	f.Message = fmt.Sprintf("%s. %s", withoutCause(what, err), remedy)
	return f
}

// withoutCause is the text of err for status: what was done to which URL, and for our own errors why it was refused.
// The network's own words name addresses inside the cluster and change from one attempt to the next.
func withoutCause(what string, err error) string {
	var why string
	switch diddoc.Class(err) {
	case diddoc.ClassFetchFailed:
		why = "the name does not resolve, or no connection can be made"
	case diddoc.ClassTimeout:
		why = "no answer in time"
	case diddoc.ClassTLSError:
		why = "it does not speak TLS with a certificate that the operator trusts"
	case diddoc.ClassBadStatus:
		why = "the answer is not 200"
	case diddoc.ClassBlockedAddress:
		why = "it is at an address that the operator does not call, or by plain HTTP at a public one"
	default:
		return err.Error()
	}
	return fmt.Sprintf("the DID document of %s cannot be read: %s", what, why)
}
