package holdlink

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"atcr.io/operator/api/v1alpha1"
)

const plcDID = "did:plc:abcdefghijklmnopqrstuvwx"

// document serves a DID document at any path, and counts.
func document(t *testing.T, did *atomic.Value, endpoint string) (base string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprintf(w, `{"id":%q,"service":[{"id":"#atcr_hold","type":"AtcrHoldService","serviceEndpoint":%q}]}`, did.Load(), endpoint)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func resolver(services ...*corev1.Service) *Resolver {
	b := fake.NewClientBuilder()
	for _, s := range services {
		b = b.WithObjects(s)
	}
	return NewResolver(b.Build(), "cluster.local", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "")
}

func appView(plc string) *v1alpha1.AppView {
	av := &v1alpha1.AppView{}
	av.Spec.Identity.PLCURL = v1alpha1.Origin(plc)
	return av
}

func byDID(did string) *v1alpha1.HoldLink {
	l := &v1alpha1.HoldLink{}
	l.Spec.Hold.DID = v1alpha1.DID(did)
	return l
}

func TestADIDInTheDirectoryIsLookedUpThere(t *testing.T) {
	var did atomic.Value
	did.Store(plcDID)
	plc, _ := document(t, &did, "https://hold.example.com/")
	found := resolver().look(t.Context(), resolver().clients(types.NamespacedName{}, access{}), resolver().directory(appView(plc)), byDID(plcDID))
	require.Equal(t, Found{DID: plcDID, Endpoint: "https://hold.example.com"}, found)

	did.Store("did:plc:zzzzzzzzzzzzzzzzzzzzzzzz")
	found = resolver().look(t.Context(), resolver().clients(types.NamespacedName{}, access{}), resolver().directory(appView(plc)), byDID(plcDID))
	require.Equal(t, v1alpha1.ReasonDIDMismatch, found.Reason)
	require.False(t, found.Passing)

	found = resolver().look(t.Context(), resolver().clients(types.NamespacedName{}, access{}), resolver().directory(appView("http://127.0.0.1:1")), byDID(plcDID))
	require.Equal(t, v1alpha1.ReasonFetchFailed, found.Reason)
	require.True(t, found.Passing)
}

func TestADIDOfTheWebIsLookedUpAtItsHost(t *testing.T) {
	var did atomic.Value
	base, _ := document(t, &did, "https://hold.example.com")
	id := "did:web:127.0.0.1%3A" + base[strings.LastIndex(base, ":")+1:]
	did.Store(id)
	require.Equal(t, Found{DID: id, Endpoint: "https://hold.example.com"}, resolver().look(t.Context(), resolver().clients(types.NamespacedName{}, access{}), resolver().directory(appView("")), byDID(id)))
}

func TestAServiceIsReachedByItsFullNameAndPort(t *testing.T) {
	svc := func(ports ...int32) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "hold"}}
		for _, p := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: p})
		}
		return s
	}
	for name, c := range map[string]struct {
		service *corev1.Service
		ask     int32
		port    int32
		ok      bool
	}{
		"its only port":              {svc(8080), 0, 8080, true},
		"80 of several":              {svc(443, 80), 0, 80, true},
		"the one asked for":          {svc(443, 8080), 8080, 8080, true},
		"none that was asked for":    {svc(443), 8080, 8080, false},
		"several, and none is 80":    {svc(1, 2), 0, 80, false},
		"a service without a port":   {svc(), 0, 80, false},
		"80 though there is another": {svc(80), 80, 80, true},
	} {
		port, ok := choosePort(c.service, c.ask)
		require.Equal(t, c.port, port, name)
		require.Equal(t, c.ok, ok, name)
	}

	found := resolver(svc(80)).byService(t.Context(), resolver().clients(types.NamespacedName{}, access{}), "n", &v1alpha1.ServiceReference{Name: "hold", Port: 81})
	require.Equal(t, v1alpha1.ReasonServiceNotFound, found.Reason)
	require.Contains(t, found.Message, "no port 81")
}

func TestTheDIDOfAURL(t *testing.T) {
	for base, want := range map[string]string{
		"https://hold.example.com": "did:web:hold.example.com", "https://hold.example.com:443": "did:web:hold.example.com",
		"http://Hold.example.com:80": "did:web:hold.example.com", "http://hold.svc:8080": "did:web:hold.svc%3A8080",
	} {
		got, err := webDID(base)
		require.NoError(t, err)
		require.Equal(t, want, got, base)
	}
	_, err := webDID("https://[::1]:8080")
	require.Error(t, err)
}

func TestAnOutcomeIsRememberedForItsTime(t *testing.T) {
	var did atomic.Value
	did.Store(plcDID)
	plc, asked := document(t, &did, "https://hold.example.com")
	r, key := resolver(), types.NamespacedName{Namespace: "n", Name: "hold"}
	now := time.Now()
	r.now = func() time.Time { return now }
	resolve := func(from string) (Found, time.Duration) {
		return r.Resolve(t.Context(), key, from, appView(plc), byDID(plcDID), access{})
	}

	_, wait := resolve("a")
	require.GreaterOrEqual(t, wait, time.Hour)
	_, _ = resolve("a")
	require.EqualValues(t, 1, asked.Load())
	_, _ = resolve("b")
	require.EqualValues(t, 2, asked.Load(), "another spec")
	now = now.Add(2 * time.Hour)
	_, _ = resolve("b")
	require.EqualValues(t, 3, asked.Load(), "an hour is over")

	did.Store("did:plc:zzzzzzzzzzzzzzzzzzzzzzzz")
	var waits []time.Duration
	for range 12 {
		now = now.Add(2 * time.Hour)
		_, wait = resolve("b")
		waits = append(waits, wait)
	}
	require.Equal(t, 2*time.Second, waits[0])
	require.Equal(t, 4*time.Second, waits[1])
	require.Equal(t, 5*time.Minute, waits[11], "less and less often")

	r.Forget(key)
	did.Store(plcDID)
	found, _ := resolve("b")
	require.Empty(t, found.Reason)
}

// Private addresses are those of Services that a HoldLink may name; those of this machine, of the neighbours and of clouds'
// metadata services are never called, and nothing is told but that.
func TestAddressesThatAreNeverCalled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	r := NewResolver(fake.NewClientBuilder().Build(), "cluster.local", nil, "")
	for _, endpoint := range []string{
		"http://" + l.Addr().String(), "http://localhost:8080", "http://169.254.169.254", "http://[::1]:8080", "http://[fe80::1]", "http://0.0.0.0:80",
		"http://[::ffff:127.0.0.1]:8080", "http://224.0.0.1", "http://10.1.2.3:8080", "https://192.168.1.1",
	} {
		found := r.at(t.Context(), r.clients(types.NamespacedName{}, access{}), "did:web:hold.example.com", endpoint)
		require.Equal(t, v1alpha1.ReasonBlockedAddress, found.Reason, endpoint)
		require.False(t, found.Passing)
	}
}

func TestPrivateAddressesAreThoseOfTheNamespacesServices(t *testing.T) {
	policy := resolver().trusting("n")
	for host, open := range map[string]bool{
		"hold.n.svc.cluster.local": true, "hold.n.svc": true, "HOLD.n.svc.": true, "hold-0.hold.n.svc.cluster.local": true,
		"hold.other.svc.cluster.local": false, "n.svc.cluster.local": false, "hold.n.svc.example.com": false, "hold.n": false, "hold": false,
		"hold.example.com": false, "10.1.2.3": false,
	} {
		err := policy.Check(host, netip.MustParseAddrPort("10.1.2.3:8080"), false)
		require.Equal(t, open, err == nil, host)
	}
	require.NoError(t, policy.Check("hold.example.com", netip.MustParseAddrPort("127.1.2.3:8080"), false), "a range that is allowed")
}

// The directory is what the AppView names, wherever the HoldLink is and whatever it trusts.
func TestTheDirectoryIsTheAppViews(t *testing.T) {
	r := NewResolver(fake.NewClientBuilder().Build(), "cluster.local", nil, "")
	av := appView("http://plc.prod.svc.cluster.local")
	av.Namespace = "prod"
	mine := r.clients(types.NamespacedName{Namespace: "tenant", Name: "hold"}, access{namespace: "tenant", bundle: "PEM"})
	got := r.directory(av)
	require.Equal(t, "http://plc.prod.svc.cluster.local", got.url)
	require.Same(t, r.clients(types.NamespacedName{Namespace: "prod", Name: "hold"}, access{namespace: "prod"}).trusted, got.client, "as a HoldLink beside it has its hold called")
	require.NotSame(t, mine.trusted, got.client)

	// No name resolves here; that of an address does.
	av.Spec.Identity.PLCURL = "http://10.1.2.3"
	found, _ := r.Resolve(t.Context(), types.NamespacedName{}, "", av, byDID(plcDID), access{namespace: "tenant"})
	require.Equal(t, v1alpha1.ReasonBlockedAddress, found.Reason)
}

func TestTheAPIServerIsNeverCalled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	named, port, name := l.Addr().String(), int32(6443), "kubernetes"
	behind := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Ports: []discoveryv1.EndpointPort{{Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"127.0.0.9", "::1"}}},
	}
	r := NewResolver(fake.NewClientBuilder().WithObjects(behind).Build(), "cluster.local", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "https://"+named)
	link := byDID("did:web:hold.example.com")
	for _, endpoint := range []string{"http://" + named, "https://" + named, "http://127.0.0.9:6443"} {
		link.Spec.Endpoint = v1alpha1.Origin(endpoint)
		found, _ := r.Resolve(t.Context(), types.NamespacedName{}, endpoint, appView(""), link, access{})
		require.Equal(t, v1alpha1.ReasonBlockedAddress, found.Reason, endpoint)
	}
	require.NoError(t, r.trusting("").Check("", netip.MustParseAddrPort("127.0.0.9:6444"), false), "another port is another server")
}

func TestAServiceThatStandsForAnotherNameIsNotFollowed(t *testing.T) {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "hold"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "kubernetes.default.svc"}}
	for _, link := range []*v1alpha1.HoldLink{
		{Spec: v1alpha1.HoldLinkSpec{Hold: v1alpha1.HoldSource{ServiceRef: &v1alpha1.ServiceReference{Name: "hold"}}}},
		{Spec: v1alpha1.HoldLinkSpec{Hold: v1alpha1.HoldSource{URL: "http://hold.n.svc"}}},
		{Spec: v1alpha1.HoldLinkSpec{Hold: v1alpha1.HoldSource{DID: "did:web:hold.example.com"}, Endpoint: "http://hold.n.svc.cluster.local:8080"}},
	} {
		link.Namespace = "n"
		found, _ := resolver(s).Resolve(t.Context(), types.NamespacedName{}, "", appView(""), link, access{namespace: "n"})
		require.Equal(t, v1alpha1.ReasonBlockedAddress, found.Reason)
		require.Contains(t, found.Message, "ExternalName")
	}
}

func TestAnEndpointThatNoStatusHoldsIsRefused(t *testing.T) {
	var did atomic.Value
	did.Store(plcDID)
	plc, _ := document(t, &did, "https://"+strings.Repeat("a", 300)+".example.com")
	found := resolver().look(t.Context(), resolver().clients(types.NamespacedName{}, access{}), resolver().directory(appView(plc)), byDID(plcDID))
	require.Equal(t, v1alpha1.ReasonInvalidDocument, found.Reason)
	require.Contains(t, found.Message, "300")
}

func TestAnotherDirectoryIsAskedAtOnce(t *testing.T) {
	var did atomic.Value
	did.Store(plcDID)
	plc, asked := document(t, &did, "https://hold.example.com")
	r, key := resolver(), types.NamespacedName{Name: "l"}
	found, _ := r.Resolve(t.Context(), key, "did "+plcDID, appView("http://127.0.0.1:1"), byDID(plcDID), access{})
	require.Equal(t, v1alpha1.ReasonFetchFailed, found.Reason)
	found, _ = r.Resolve(t.Context(), key, "did "+plcDID, appView(plc), byDID(plcDID), access{})
	require.Empty(t, found.Reason)
	require.EqualValues(t, 1, asked.Load())
	_, _ = r.Resolve(t.Context(), key, "did "+plcDID, appView(plc), byDID(plcDID), access{})
	require.EqualValues(t, 1, asked.Load(), "and remembered")
}
