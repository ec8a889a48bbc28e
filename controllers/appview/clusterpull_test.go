package appview_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/optional"
)

func nodesPull(s *v1alpha1.AppViewSpec) { s.ClusterPull = &v1alpha1.ClusterPull{} }

func nodeConfig(e *controltest.Env) *corev1.ConfigMap {
	e.Helper()
	cm := &corev1.ConfigMap{}
	e.Get("registry-node-config", cm)
	return cm
}

func clusterIP(e *controltest.Env) string {
	e.Helper()
	s := &corev1.Service{}
	e.Get("registry", s)
	return s.Spec.ClusterIP
}

func TestNodesAreToldWhereTheRegistryIs(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	av := appView("registry", nodesPull, func(s *v1alpha1.AppViewSpec) { s.BaseURL = "https://registry.example.com" })
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	require.Equal(t, "registry-node-config", got.Status.NodeConfigMap)
	endpoint := net.JoinHostPort(clusterIP(e), "5000")
	require.Contains(t, got.Status.Endpoints, v1alpha1.Endpoint{Type: v1alpha1.EndpointClusterIP, Value: endpoint})
	require.Contains(t, runtimeFile(e, "registry").AllowedHosts, endpoint, "the token realm is where nodes are")
	require.Contains(t, nodeConfig(e).Data["registry.example.com.hosts.toml"], `[host."http://`+endpoint+`"]`)

	quiet(e, op)
	requests.Reset()
	touch(e, "registry", "a")
	quiet(e, op)
	require.Empty(t, requests.Requests())

	cm := nodeConfig(e)
	controltest.Update(e, cm, func(cm *corev1.ConfigMap) {
		cm.Data["registry.example.com.hosts.toml"] = "server = \"https://evil.example.com\""
	})
	e.Until("what was edited by hand is put right", func() bool {
		return strings.Contains(nodeConfig(e).Data["registry.example.com.hosts.toml"], endpoint)
	})

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.ClusterPull.Registries = []v1alpha1.Registry{"r.example.com:8443"} })
	e.Until("another registry is told", func() bool {
		data := nodeConfig(e).Data
		return data["r.example.com_8443_.hosts.toml"] != "" && data["registry.example.com.hosts.toml"] == ""
	})

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.ClusterPull = nil })
	got = e.AppView("registry", "Ready=True", "ClusterPullReady=")
	require.Empty(t, got.Status.NodeConfigMap)
	gone(e, cm)
}

func TestWhatNodesAreToldWaitsWhileItsObjectMovesOn(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	conflict := &controltest.Fault{Method: http.MethodPatch, Path: "/configmaps/registry-node-config", Status: http.StatusConflict}
	e.Operator(controltest.With(conflict))
	e.Kubelet()
	e.Create(appView("registry", nodesPull, func(s *v1alpha1.AppViewSpec) { s.BaseURL = "https://registry.example.com" }))
	e.AppView("registry", "Ready=True", "ClusterPullReady=False/Pending")
	conflict.Off()
	e.AppView("registry", "ClusterPullReady=True/Published")
}

func TestNodesMayPullFromTheirOwnPort(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	e.Create(appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.Exposure.Service.Type = corev1.ServiceTypeNodePort
		s.ClusterPull = &v1alpha1.ClusterPull{Endpoint: v1alpha1.PullNodePort, Registries: []v1alpha1.Registry{"registry.example.com"}}
	}))
	e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	var port string
	for _, h := range runtimeFile(e, "registry").AllowedHosts {
		if strings.HasPrefix(h, "localhost:") {
			port = h
		}
	}
	require.Contains(t, nodeConfig(e).Data["registry.example.com.hosts.toml"], `[host."http://`+port+`"]`)
}

func TestNodesAreToldWhomToTrust(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Install(optional.Certificate)
	e.Operator()
	e.Kubelet()
	av := appView("registry", nodesPull, withTLS("mine"))
	e.Create(av)
	got := e.AppView("registry", "Exposed=False/SecretNotFound", "ClusterPullReady=False/SecretNotFound")
	require.Empty(t, got.Status.NodeConfigMap, "the server does not speak HTTPS yet")

	// The certificate may be for the address, since the Service has it before there is one.
	mine := issue(t, "mine", 90*24*time.Hour, forService(e, "registry"))
	key := string(mine.Data["tls.key"])
	mine.Data["ca.crt"] = append(mine.Data["ca.crt"], mine.Data["tls.key"]...) // as some tools bundle them
	e.Create(mine)
	got = e.AppView("registry", "Ready=True", "ClusterPullReady=False/NameMismatch")
	require.Contains(t, condition(got, "ClusterPullReady").Message, "is not for "+clusterIP(e))
	e.Event("registry", "NameMismatch")

	better := issue(t, "mine", 90*24*time.Hour, forService(e, "registry", net.ParseIP(clusterIP(e))))
	controltest.Update(e, mine, func(s *corev1.Secret) {
		s.Data["tls.crt"], s.Data["tls.key"] = better.Data["tls.crt"], better.Data["tls.key"]
	})
	e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	cm := nodeConfig(e)
	require.Contains(t, cm.Data["ca.crt"], "BEGIN CERTIFICATE")
	for name, file := range cm.Data {
		require.NotContains(t, file, "PRIVATE KEY", name)
		require.NotContains(t, file, key)
	}
	require.Contains(t, cm.Data["registry."+e.Namespace+".svc.cluster.local_5000_.hosts.toml"], `[host."https://`+clusterIP(e)+`:5000"]`)

	// One that cert-manager makes is for the address without being asked.
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Exposure.TLS = &v1alpha1.TLS{CertManager: &v1alpha1.TLSCertificate{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
	})
	certificate := e.Object(optional.Certificate, "registry-server-tls")
	addresses, _, err := unstructured.NestedStringSlice(certificate.Object, "spec", "ipAddresses")
	require.NoError(t, err)
	require.Equal(t, []string{clusterIP(e)}, addresses)
	e.AppView("registry", "ClusterPullReady=False/CertificateNotReady")
}

func TestAConfigMapOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "registry-node-config"}, Data: map[string]string{"a": "b"}}
	e.Create(theirs)
	av := appView("registry", nodesPull)
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=False/NotPermitted")
	require.Empty(t, got.Status.NodeConfigMap)
	e.Event("registry", "NotPermitted")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.ClusterPull = nil })
	e.AppView("registry", "Ready=True", "ClusterPullReady=")
	require.Equal(t, map[string]string{"a": "b"}, nodeConfig(e).Data)
}

// Not parallel: there is one such ConfigMap in a cluster.
func TestDevelopersToolsFindTheRegistryOfTheCluster(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Everywhere(), controltest.Counted(&requests))
	e.Kubelet()
	hosting := func(s *v1alpha1.AppViewSpec) {
		s.BaseURL = "https://registry.example.com"
		s.ClusterPull = &v1alpha1.ClusterPull{LocalRegistryHosting: v1alpha1.Enabled}
	}
	kube := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-public"}}
	require.NoError(t, client.IgnoreAlreadyExists(e.Client.Create(t.Context(), kube)))
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "local-registry-hosting", Namespace: "kube-public"}, Data: map[string]string{"a": "b"}}
	e.Create(theirs)
	av := appView("registry", hosting)
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=False/NotPermitted")
	require.Contains(t, condition(got, "ClusterPullReady").Message, "in namespace kube-public belongs to somebody else")
	require.NoError(t, e.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs))
	require.Equal(t, map[string]string{"a": "b"}, theirs.Data)

	require.NoError(t, e.Client.Delete(t.Context(), theirs))
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "now")
	e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	ours := &corev1.ConfigMap{}
	require.NoError(t, e.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), ours))
	require.Equal(t, "host: \"registry.example.com\"\nhostFromContainerRuntime: \"registry.example.com\"\nhostFromClusterNetwork: \"registry."+e.Namespace+".svc.cluster.local:5000\"\n",
		ours.Data["localRegistryHosting.v1"])

	quiet(e, op)
	requests.Reset()
	touch(e, "registry", "a")
	quiet(e, op)
	require.Empty(t, requests.Requests())

	e.Create(appView("second", hosting))
	e.AppView("second", "Ready=True", "ClusterPullReady=False/NotPermitted")

	require.NoError(t, e.Client.Delete(t.Context(), ours))
	e.Until("it is made again", func() bool { return e.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), ours) == nil })
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.ClusterPull.LocalRegistryHosting = v1alpha1.Disabled })
	away := func() bool {
		err := e.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), ours)
		return apierrors.IsNotFound(err) || ours.Labels[v1alpha1.LabelOwnerName] != "registry"
	}
	e.Until("it is taken away", away)

	second := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "second", Namespace: e.Namespace}}
	controltest.Annotate(e, second, v1alpha1.AnnotationReconcile, "now")
	e.AppView("second", "Ready=True", "ClusterPullReady=True/Published")
	require.NoError(t, e.Client.Delete(t.Context(), second))
	e.Until("it goes with its AppView", func() bool {
		return apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(theirs), ours))
	})
}

func TestAnOperatorOfSomeNamespacesSaysThatItCannotNameTheRegistryOfTheCluster(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.ClusterPull = &v1alpha1.ClusterPull{LocalRegistryHosting: v1alpha1.Enabled}
	})
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=False/ClusterModeNeeded")
	require.Contains(t, condition(got, "ClusterPullReady").Message, "--watch-namespaces")
	require.Equal(t, "registry-node-config", got.Status.NodeConfigMap, "the rest is there")
	require.NoError(t, e.Client.Delete(t.Context(), av)) // an operator of all namespaces would carry it out
	gone(e, av)
}
