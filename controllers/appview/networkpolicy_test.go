package appview_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
	"atcr.io/operator/controllers/render"
)

func inPod(_ *rest.Config, o *manager.Options) {
	o.Operator = &render.Peer{Namespace: "atcr-system", Labels: map[string]string{"app": "operator"}}
}

// policySays waits until the AppView's NetworkPolicy has that spec.
func policySays(e *controltest.Env, want string) {
	e.Helper()
	var spec networkingv1.NetworkPolicySpec
	require.NoError(e, yaml.UnmarshalStrict([]byte(want), &spec))
	e.Eventually("the network policy", func() error {
		np := &networkingv1.NetworkPolicy{}
		if err := e.Client.Get(e.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry"}, np); err != nil {
			return err
		}
		got, err := yaml.Marshal(np.Spec)
		if err != nil {
			return err
		}
		wanted, err := yaml.Marshal(spec)
		if err != nil {
			return err
		}
		if string(got) != string(wanted) {
			return fmt.Errorf("it says\n%s\nand not\n%s", got, wanted)
		}
		return nil
	})
}

const clientsAndOperator = `
podSelector: {matchLabels: {app.kubernetes.io/instance: registry, app.kubernetes.io/name: atcr-appview}}
policyTypes: [Ingress, Egress]
ingress:
- ports: [{port: 5000, protocol: TCP}]
- ports: [{port: 5001, protocol: TCP}]
  from:
  - {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: atcr-system}}, podSelector: {matchLabels: {app: operator}}}
`

const dnsAndHTTPS = `
egress:
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}, {port: 5353, protocol: UDP}, {port: 5353, protocol: TCP}]
- ports: [{port: 443, protocol: TCP}]
`

func service(name string, selector map[string]string, port int32, target intstr.IntOrString) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector: selector, Ports: []corev1.ServicePort{{Port: port, TargetPort: target}},
	}}
}

func TestTheNetworkPolicyOpensWhatTheServerNeedsAndFollowsItsHolds(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(inPod, controltest.Counted(&requests), func(_ *rest.Config, o *manager.Options) {
		o.AllowPrivateHolds = append(o.AllowPrivateHolds, netip.MustParsePrefix("10.1.2.0/24"))
	})
	e.Kubelet()
	db := e.OtherNamespace(nil)
	pg := service("pg-rw", map[string]string{"role": "primary"}, 5432, intstr.FromString("postgresql"))
	pg.Namespace = db
	e.Create(pg, service("hold", map[string]string{"app": "hold"}, 80, intstr.FromInt32(8080)))
	av := appView("registry", onPostgres, func(s *v1alpha1.AppViewSpec) {
		s.NetworkPolicy.Mode = v1alpha1.Enabled
		s.Identity.PLCURL = "http://plc.example.com:2582"
		s.Network = v1alpha1.Network{AllowedPrivateCIDRs: []v1alpha1.CIDR{"10.8.0.1/16"}, AllowedPrivatePorts: []int32{2583}}
		s.NetworkPolicy.ExtraEgress = []networkingv1.NetworkPolicyEgressRule{{
			Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(3128))}},
			To:    []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "proxy"}}}},
		}}
	})
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold"}}
	link.Spec.AppViewRef.Name = "registry"
	link.Spec.Hold.DID = "did:web:hold.example.com"
	link.Spec.Endpoint = v1alpha1.Origin("http://hold." + e.Namespace + ".svc.cluster.local")
	e.Create(cnpg(func(s map[string]string) { s["uri"] = "postgresql://app:s3cret@pg-rw." + db + ":5432/app" }), link, av)
	e.AppView("registry", "Ready=True")

	inside := func(name string) string {
		return "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: " + name + "}}, podSelector: {matchLabels: "
	}
	before := clientsAndOperator + `
egress:
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}, {port: 5353, protocol: UDP}, {port: 5353, protocol: TCP}]
- ports: [{port: 443, protocol: TCP}, {port: 2582, protocol: TCP}]
`
	private := `
- {to: [{ipBlock: {cidr: 10.8.0.0/16}}], ports: [{port: 80, protocol: TCP}, {port: 443, protocol: TCP}, {port: 2583, protocol: TCP}]}
`
	address := `
- {to: [{ipBlock: {cidr: 10.1.2.3/32}}], ports: [{port: 9000, protocol: TCP}]}
`
	// By namespace: which of the two comes first is chance.
	holds := "\n- {ports: [{port: 8080, protocol: TCP}], to: [" + inside(e.Namespace) + "{app: hold}}}]}\n"
	database := "\n- {ports: [{port: postgresql, protocol: TCP}], to: [" + inside(db) + "{role: primary}}}]}\n"
	pods := holds + database
	if db < e.Namespace {
		pods = database + holds
	}
	extra := `
- {to: [{podSelector: {matchLabels: {app: proxy}}}], ports: [{port: 3128, protocol: TCP}]}
`
	policySays(e, before+private+pods+extra)

	another := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "another"}}
	another.Spec.AppViewRef.Name = "registry"
	another.Spec.Hold.DID = "did:web:other.example.com"
	another.Spec.Endpoint = "http://10.1.2.3:9000"
	e.Create(another)
	policySays(e, before+address+private+pods+extra)
	require.NoError(t, e.Client.Delete(t.Context(), another))
	policySays(e, before+private+pods+extra)

	// Another door, opened by hand, is closed again.
	np := &networkingv1.NetworkPolicy{}
	e.Get("registry", np)
	controltest.Update(e, np, func(np *networkingv1.NetworkPolicy) {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{})
	})
	policySays(e, before+private+pods+extra)

	require.NoError(t, e.Client.Delete(t.Context(), link)) // its resolution would go on trying
	policySays(e, before+private+database+extra)
	quiet(e, op)
	requests.Reset()
	at := reconciles(t, op.Metrics)
	touch(e, "registry", "rest")
	e.Eventually("a reconcile", func() error {
		if reconciles(t, op.Metrics) == at {
			return context.DeadlineExceeded
		}
		return nil
	})
	quiet(e, op)
	require.Empty(t, requests.Requests())

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.NetworkPolicy.Mode = v1alpha1.Disabled })
	e.Eventually("no network policy", func() error {
		if err := e.Client.Get(t.Context(), client.ObjectKeyFromObject(av), np); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("it is still there"), err)
		}
		return nil
	})
}

func TestTheNetworkPolicyIsThereBeforeThePods(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator(inPod)
	e.Create(appView("registry", withoutDefault, func(s *v1alpha1.AppViewSpec) {
		s.NetworkPolicy.Mode = v1alpha1.Enabled
		s.NetworkPolicy.MetricsFrom = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "monitoring"}}}}
	}))
	e.AppView("registry", "Available=False/Waiting")
	policySays(e, clientsAndOperator+"  - {namespaceSelector: {matchLabels: {team: monitoring}}}\n"+dnsAndHTTPS)
}

// Outside a cluster the operator has no pods to let in: a policy that shut it out would keep keys from rotating.
func TestAnOperatorOutsideTheClusterIsLetIn(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Create(appView("registry", func(s *v1alpha1.AppViewSpec) { s.NetworkPolicy.Mode = v1alpha1.Enabled }))
	policySays(e, `
podSelector: {matchLabels: {app.kubernetes.io/instance: registry, app.kubernetes.io/name: atcr-appview}}
policyTypes: [Ingress, Egress]
ingress:
- ports: [{port: 5000, protocol: TCP}]
- ports: [{port: 5001, protocol: TCP}]
`+dnsAndHTTPS)
}
