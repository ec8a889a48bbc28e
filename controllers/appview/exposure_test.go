package appview_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/optional"
)

func byGateway(s *v1alpha1.AppViewSpec) {
	s.Exposure.Gateway = &v1alpha1.Gateway{
		ParentRefs: []v1alpha1.ParentReference{{Name: "edge", Namespace: "gateways", SectionName: "https"}},
		Hostnames:  []v1alpha1.Hostname{"registry.example.com", "r.example.com"},
	}
}

func byIngress(s *v1alpha1.AppViewSpec) {
	s.Exposure.Ingress = &v1alpha1.Ingress{
		ClassName: "edge", Hosts: []v1alpha1.Hostname{"registry.example.com", "r.example.com"}, TLSSecretName: "tls",
		Annotations: map[string]string{"edge.example.com/body-size": "0"},
	}
}

// answers is a status of the route as a Gateway's controller writes it.
func answers(generation int64, kind, status, reason string) map[string]any {
	return map[string]any{"parents": []any{map[string]any{
		"controllerName": "example.com/edge",
		"parentRef": map[string]any{
			"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "gateways", "sectionName": "https",
		},
		"conditions": []any{map[string]any{
			"type": kind, "status": status, "reason": reason, "message": "says the Gateway", "observedGeneration": generation,
			"lastTransitionTime": "2026-01-01T00:00:00Z",
		}},
	}}}
}

// Not parallel: it runs before the tests that install the definition for the whole API server.
func TestAGatewayThatTheClusterDoesNotKnowKeepsNoServerFromRunning(t *testing.T) {
	e := controltest.New(t)
	e.Operator(controltest.Everywhere())
	e.Kubelet()
	e.Create(appView("registry", byGateway))
	av := e.AppView("registry", "Ready=False/CRDNotServed", "Exposed=False/CRDNotServed", "Stalled=True/CRDNotServed", "Available=True")
	require.Contains(t, condition(av, "Exposed").Message, "install the Gateway API")
	e.Event("registry", "CRDNotServed")

	e.Install(optional.HTTPRoute)
	e.AppView("registry", "Ready=False/Pending", "Exposed=False/Pending", "Stalled=")
	require.Equal(t, "registry", e.Object(optional.HTTPRoute, "registry").GetName())
}

func TestAnAppViewIsExposedByAGateway(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Install(optional.HTTPRoute)
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	av := appView("registry", byGateway)
	e.Create(av)
	e.AppView("registry", "Exposed=False/Pending", "Ready=False/Pending", "Reconciling=True")

	route := e.Object(optional.HTTPRoute, "registry")
	hosts, _, err := unstructured.NestedStringSlice(route.Object, "spec", "hostnames")
	require.NoError(t, err)
	require.Equal(t, []string{"registry.example.com", "r.example.com"}, hosts)
	rules, _, err := unstructured.NestedSlice(route.Object, "spec", "rules")
	require.NoError(t, err)
	backend := rules[0].(map[string]any)["backendRefs"].([]any)[0].(map[string]any)
	require.Equal(t, "registry", backend["name"])
	require.EqualValues(t, 5000, backend["port"])

	e.SetStatus(optional.HTTPRoute, "registry", answers(route.GetGeneration(), "Accepted", "False", "NotAllowedByListeners"))
	got := e.AppView("registry", "Exposed=False/NotAccepted", "Ready=False/NotAccepted")
	require.Contains(t, condition(got, "Exposed").Message, "NotAllowedByListeners")
	require.Contains(t, condition(got, "Exposed").Message, "says the Gateway")
	e.Event("registry", "NotAccepted")

	e.SetStatus(optional.HTTPRoute, "registry", answers(route.GetGeneration(), "Accepted", "True", "Accepted"))
	got = e.AppView("registry", "Exposed=True/Accepted", "Ready=True")
	require.Equal(t, "https://registry.example.com", got.Status.URL)
	require.Contains(t, runtimeFile(e, "registry").AllowedHosts, "r.example.com")

	quiet(e, op)
	requests.Reset()
	touch(e, "registry", "a")
	quiet(e, op)
	require.Empty(t, requests.Requests(), "routes are read from a cache")

	// An answer about an older generation is no answer.
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Exposure.Gateway.Hostnames = av.Spec.Exposure.Gateway.Hostnames[:1]
	})
	e.AppView("registry", "Exposed=False/Pending")

	// What was edited by hand is put right.
	route = e.Object(optional.HTTPRoute, "registry")
	require.NoError(t, unstructured.SetNestedStringSlice(route.Object, []string{"evil.example.com"}, "spec", "hostnames"))
	require.NoError(t, e.Client.Update(t.Context(), route))
	e.Until("the hosts are back", func() bool {
		hosts, _, _ := unstructured.NestedStringSlice(e.Object(optional.HTTPRoute, "registry").Object, "spec", "hostnames")
		return len(hosts) == 1 && hosts[0] == "registry.example.com"
	})

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Exposure.Gateway = nil })
	e.AppView("registry", "Ready=True", "Exposed=False/NotRequested")
	e.Until("the route is gone", func() bool {
		return apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(route), optional.HTTPRoute.New()))
	})
}

func TestAnAppViewIsExposedByAnIngress(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := appView("registry", byIngress)
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "Exposed=True/Accepted")
	require.Equal(t, "https://registry.example.com", got.Status.URL)

	ingress := &networkingv1.Ingress{}
	e.Get("registry", ingress)
	require.Equal(t, "edge", *ingress.Spec.IngressClassName)
	require.Equal(t, "0", ingress.Annotations["edge.example.com/body-size"])
	require.Equal(t, []networkingv1.IngressTLS{{Hosts: []string{"registry.example.com", "r.example.com"}, SecretName: "tls"}}, ingress.Spec.TLS)
	require.Len(t, ingress.Spec.Rules, 2)
	require.Equal(t, "registry", ingress.Spec.Rules[1].HTTP.Paths[0].Backend.Service.Name)

	ingress.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.7"}}
	require.NoError(t, e.Client.Status().Update(t.Context(), ingress))
	e.Until("the address is in the condition", func() bool {
		return condition(e.AppView("registry"), "Exposed").Message == "Ingress registry routes registry.example.com, r.example.com at 192.0.2.7"
	})

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Exposure.Ingress = nil })
	e.AppView("registry", "Ready=True", "Exposed=False/NotRequested")
	require.True(t, apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(ingress), ingress)))
}

func TestAnIngressOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	theirs := &networkingv1.Ingress{}
	theirs.Name = "registry"
	theirs.Spec.DefaultBackend = &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
		Name: "theirs", Port: networkingv1.ServiceBackendPort{Number: 80}}}
	e.Create(theirs)
	e.Operator()
	e.Kubelet()
	av := appView("registry", byIngress)
	e.Create(av)
	e.AppView("registry", "Ready=False/NotPermitted", "Exposed=False/NotPermitted", "Stalled=True", "Available=True")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Exposure.Ingress = nil })
	e.AppView("registry", "Ready=True")
	e.Get("registry", theirs)
	require.Empty(t, theirs.Spec.Rules)
}

func byCertManager(s *v1alpha1.AppViewSpec) {
	s.Keys.Signing = v1alpha1.SigningKey{Source: v1alpha1.KeyCertManager,
		CertManager: &v1alpha1.CertManagerKey{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
}

// Not parallel: as above.
func TestAKeyAndACertificateOfACertManagerThatIsNotInstalled(t *testing.T) {
	e := controltest.New(t)
	e.Operator(controltest.Everywhere())
	e.Kubelet()
	running := appView("running")
	e.Create(appView("registry", byCertManager), running)
	e.AppView("registry", "Ready=False/CRDNotServed", "KeysReady=False/CRDNotServed", "Stalled=True", "Available=False/Waiting")
	e.Create(appView("secure", func(s *v1alpha1.AppViewSpec) {
		s.Exposure.TLS = &v1alpha1.TLS{CertManager: &v1alpha1.TLSCertificate{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
	}))
	got := e.AppView("secure", "Ready=False/CRDNotServed", "Exposed=False/CRDNotServed", "Stalled=True", "Available=False/Waiting")
	require.Contains(t, condition(got, "Exposed").Message, "install cert-manager")
	e.AppView("running", "Ready=True")
	controltest.Update(e, running, func(av *v1alpha1.AppView) { byCertManager(&av.Spec) })
	got = e.AppView("running", "Ready=False/CRDNotServed", "KeysReady=False/CRDNotServed", "Available=True")
	require.Contains(t, condition(got, "KeysReady").Message, "spec.keys.signing.source")
	require.Contains(t, condition(got, "KeysReady").Message, "install cert-manager")
	e.Event("running", "CRDNotServed")
	require.Equal(t, 1, e.Told("running", "CRDNotServed"))
	d := &appsv1.Deployment{}
	e.Get("running", d)
	require.EqualValues(t, 1, d.Generation, "what runs goes on as it was")

	e.Install(optional.Certificate)
	e.AppView("secure", "Ready=False/CertificateNotReady", "Exposed=False/CertificateNotReady", "Reconciling=True")
	e.AppView("registry", "Ready=False/CertificateNotReady", "KeysReady=False/CertificateNotReady", "Reconciling=True")
}

func TestASigningKeyFromCertManagerIsRolledOverToLikeAnyOther(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Install(optional.Certificate)
	e.Operator(propagation(time.Second))
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	e.AppView("registry", "Ready=True")
	generated := currentKid(e, "registry")

	controltest.Update(e, av, func(av *v1alpha1.AppView) { byCertManager(&av.Spec) })
	e.AppView("registry", "KeysReady=False/CertificateNotReady")
	require.Equal(t, generated, currentKid(e, "registry"), "the key that signs stays meanwhile")
	certificate := e.Object(optional.Certificate, "registry-signing-source")
	policy, _, err := unstructured.NestedString(certificate.Object, "spec", "privateKey", "rotationPolicy")
	require.NoError(t, err)
	require.Equal(t, "Always", policy)

	e.SetStatus(optional.Certificate, "registry-signing-source", map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": "False", "reason": "Pending", "message": "Issuer ca is not ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}}})
	e.Until("the condition says why", func() bool {
		return strings.Contains(condition(e.AppView("registry"), "KeysReady").Message, "Issuer ca is not ready")
	})

	// cert-manager writes the Secret, with the labels of the template.
	labels, _, err := unstructured.NestedStringMap(certificate.Object, "spec", "secretTemplate", "labels")
	require.NoError(t, err)
	issued, key := pair(t, "registry-signing-source")
	issued.Labels = labels
	e.Create(issued)
	e.AppView("registry", "Ready=True", "KeysReady=True/Provided")
	e.Until("the issued key signs", func() bool { return currentKid(e, "registry") == key.Kid })

	// Another base URL is no other service: cert-manager is asked for nothing.
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.BaseURL = "https://two.example.com" })
	e.Until("the server has its URL", func() bool { return e.AppView("registry", "Ready=True").Status.URL == "https://two.example.com" })
	require.Equal(t, certificate.GetGeneration(), e.Object(optional.Certificate, "registry-signing-source").GetGeneration())

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Keys.Signing = v1alpha1.SigningKey{} })
	e.AppView("registry", "Ready=True", "KeysReady=True")
	e.Until("the Certificate is gone", func() bool {
		return apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(certificate), optional.Certificate.New()))
	})
}
