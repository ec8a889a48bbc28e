package holdlink_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
)

// wrong is what is wrong with a HoldLink or its hold.
type wrong struct {
	hold    func(*controltest.Env, *controltest.Hold)
	spec    func(*v1alpha1.HoldLinkSpec)
	around  func(*controltest.Env, *v1alpha1.HoldLink) controltest.Option
	want    string   // the condition that says so, as "Type=Status/Reason"
	says    []string // the field or the object, and what to do
	passing bool     // Reconciling, not Stalled
	ready   bool     // Ready does not depend on it
}

// Each thing that can be wrong with a HoldLink: one condition with a reason, a sentence that names the field and what to
// do, one event, and no hot loop; the registry stays Ready.
func TestWhatIsWrongWithAHoldLinkIsSaidOnce(t *testing.T) {
	t.Parallel()
	junk := func(_ *controltest.Env, h *controltest.Hold) { h.Claim("no DID at all") }
	for name, c := range map[string]*wrong{
		"another DID lives there": {
			hold: func(_ *controltest.Env, h *controltest.Hold) { h.Claim("did:web:stranger.example.com") },
			want: "Resolved=False/DIDMismatch", says: []string{"same host"},
		},
		"a document that is none": {
			hold: junk, want: "Resolved=False/InvalidDocument", says: []string{"must be a hold's"},
		},
		"nobody answers": {
			spec: func(s *v1alpha1.HoldLinkSpec) { s.Endpoint = "http://127.0.0.1:1" },
			want: "Resolved=False/FetchFailed", says: []string{"is the hold running"}, passing: true,
		},
		"an address of this machine": {
			around: func(*controltest.Env, *v1alpha1.HoldLink) controltest.Option { return controltest.NoLoopback() },
			want:   "Resolved=False/BlockedAddress", says: []string{"--allow-private-holds"},
		},
		"a private address": {
			spec: func(s *v1alpha1.HoldLinkSpec) { s.Endpoint = "http://10.1.2.3:8080" },
			want: "Resolved=False/BlockedAddress", says: []string{"NAME.NAMESPACE.svc", "--allow-private-holds"},
		},
		"a service that does not exist": {
			spec: func(s *v1alpha1.HoldLinkSpec) {
				s.Hold, s.Endpoint = v1alpha1.HoldSource{ServiceRef: &v1alpha1.ServiceReference{Name: "nowhere"}}, ""
			},
			want: "Resolved=False/ServiceNotFound", says: []string{"spec.hold.serviceRef", "Service nowhere", "create it"}, passing: true,
		},
		"a port that does not exist": {
			spec: func(s *v1alpha1.HoldLinkSpec) { s.Endpoint = "http://127.0.0.1:99999" },
			want: "Accepted=False/InvalidSpec", says: []string{"spec.endpoint"},
		},
		"an AppView that does not exist": {
			spec: func(s *v1alpha1.HoldLinkSpec) { s.AppViewRef.Name = "nowhere" },
			want: "Accepted=False/AppViewNotFound", says: []string{"spec.appViewRef", "/nowhere", "create it"}, passing: true,
		},
		"an AppView of another namespace that does not admit it": {
			around: func(e *controltest.Env, l *v1alpha1.HoldLink) controltest.Option {
				other := e.OtherNamespace(nil)
				e.Create(&v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: other}})
				l.Spec.AppViewRef.Namespace = v1alpha1.NamespaceName(other)
				return func(_ *rest.Config, o *manager.Options) { o.Namespaces = append(o.Namespaces, other) }
			},
			want: "Accepted=False/NotAllowedByAppView", says: []string{"spec.holdLinks.allowedNamespaces"},
		},
		"a hold that another HoldLink attaches": {
			around: func(e *controltest.Env, l *v1alpha1.HoldLink) controltest.Option {
				first := l.DeepCopy()
				first.Name = "a"
				e.Create(first)
				return nil
			},
			want: "Accepted=False/DuplicateDID", says: []string{"/a"},
		},
		"a hold that answers with an error": {
			hold: func(_ *controltest.Env, h *controltest.Hold) { h.Fail(true) },
			want: "Healthy=False/BadStatus", says: []string{"/xrpc/_health", "not 200", "Check that the hold runs"}, ready: true,
		},
		"a hold that hangs up": {
			hold: func(_ *controltest.Env, h *controltest.Hold) {
				h.Answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			},
			want: "Healthy=False/Unreachable", says: []string{"/xrpc/_health", "no connection", "Check that the hold runs"}, ready: true,
		},
		"a hold that takes too long": {
			hold: func(_ *controltest.Env, h *controltest.Hold) {
				h.Answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			},
			spec: func(s *v1alpha1.HoldLinkSpec) { s.HealthCheck.Timeout = "1s" },
			want: "Healthy=False/Timeout", says: []string{"/xrpc/_health", "within the timeout"}, ready: true,
		},
		"a hold with a certificate that nobody trusts": {
			hold: func(_ *controltest.Env, h *controltest.Hold) {
				h.Answer(http.RedirectHandler("https"+strings.TrimPrefix(h.URL, "http"), http.StatusFound).ServeHTTP)
			},
			want: "Healthy=False/TLSError", says: []string{"certificate is not trusted"}, ready: true,
		},
		"a hold that leads elsewhere": {
			hold: func(_ *controltest.Env, h *controltest.Hold) {
				h.Answer(http.RedirectHandler("http://169.254.169.254/latest", http.StatusFound).ServeHTTP)
			},
			want: "Healthy=False/BlockedAddress", says: []string{"--allow-private-holds"}, ready: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

func (c *wrong) run(t *testing.T) {
	e := controltest.New(t)
	var reconciles controltest.Reconciles
	options := []controltest.Option{reconciles.Watch}
	hold := e.NewHold()
	l := link("hold", hold)
	if c.hold != nil {
		c.hold(e, hold)
	}
	if c.spec != nil {
		c.spec(&l.Spec)
	}
	av := appView(func(s *v1alpha1.AppViewSpec) {
		s.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:default.example.com"}
	})
	e.Create(av)
	if c.around != nil {
		if o := c.around(e, l); o != nil {
			options = append(options, o)
		}
	}
	e.Operator(options...)
	e.Kubelet()
	e.AppView("registry", "Ready=True")
	e.Create(l)

	kind, reason := controltest.Split(c.want)
	want := []string{c.want, "Ready=False/" + reason, "Stalled=True/" + reason}
	switch {
	case c.ready:
		want = []string{c.want, "Ready=True", "Resolved=True"}
	case c.passing:
		want = []string{c.want, "Ready=False/" + reason, "Reconciling=True"}
	}
	got := e.HoldLink("hold", want...)
	for _, says := range c.says {
		require.Contains(t, message(got.Status.Conditions, kind), says)
	}
	for _, says := range []string{"stranger", "no DID at all", "version"} {
		require.NotContains(t, message(got.Status.Conditions, kind), says, "no byte of an answer is shown")
	}
	e.Event("hold", reason)
	e.AppView("registry", "Ready=True")

	looks := reconciles.Of("holdlink", "hold")
	require.NotZero(t, looks)
	select { // a moment in which a hot loop would come by dozens of times
	case <-time.After(1500 * time.Millisecond):
	case <-t.Context().Done():
	}
	require.LessOrEqual(t, reconciles.Of("holdlink", "hold")-looks, 2, "it is looked at again and again")
	require.Equal(t, 1, e.Told("hold", reason), "one event says it")
	e.AppView("registry", "Ready=True")
}
