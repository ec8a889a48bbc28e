package appview_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
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
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/optional"
)

// issue makes a certificate of a server and puts it into a Secret.
func issue(t *testing.T, name string, life time.Duration, change ...func(*x509.Certificate)) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "tls.crt": crt, "ca.crt": crt,
	}}
	s.Name, s.Labels = name, map[string]string{v1alpha1.LabelWatch: "true"}
	return s
}

// forService names the Service of an AppView, and whatever else is given.
func forService(e *controltest.Env, appView string, also ...net.IP) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames = []string{appView + "." + e.Namespace + ".svc.cluster.local"}
		c.IPAddresses = also
	}
}

func withTLS(secret string) func(*v1alpha1.AppViewSpec) {
	return func(s *v1alpha1.AppViewSpec) {
		s.Exposure.TLS = &v1alpha1.TLS{SecretRef: &v1alpha1.LocalReference{Name: v1alpha1.ObjectName(secret)}}
	}
}

func TestTheServerSpeaksHTTPSWithACertificateOfTheUsers(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	ns := &corev1.Namespace{}
	ns.Name = e.Namespace
	controltest.Update(e, ns, func(ns *corev1.Namespace) { ns.Labels["pod-security.kubernetes.io/enforce"] = "restricted" })
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	mine := issue(t, "mine", 90*24*time.Hour, forService(e, "registry"))
	e.Create(mine)
	e.Create(appView("registry", withTLS("mine")))
	av := e.AppView("registry", "Ready=True", "Exposed=True/Accepted")
	require.Contains(t, condition(av, "Exposed").Message, "Secret mine, until")
	require.Equal(t, "https://registry."+e.Namespace+".svc.cluster.local:5000", av.Status.URL)
	require.Len(t, av.Status.SecretExpirations, 1)
	require.Equal(t, "mine", av.Status.SecretExpirations[0].Name)

	d := deployment(e)
	require.Equal(t, names.DirTLS+"/tls.crt", variable(d, names.TLSCertPath))
	require.Equal(t, names.DirTLS+"/tls.key", variable(d, names.TLSKeyPath))
	require.Equal(t, av.Status.URL, variable(d, names.BaseURL))
	require.Equal(t, "mine", volume(d, "tls").Secret.SecretName)
	require.Equal(t, []corev1.KeyToPath{{Key: "tls.crt", Path: "tls.crt"}, {Key: "tls.key", Path: "tls.key"}}, volume(d, "tls").Secret.Items)
	pod := &corev1.Pod{Spec: d.Spec.Template.Spec}
	pod.Name = "p"
	e.Create(pod)
	// Whoever has no certificate yet, or one that has ended, is still asked how it is.
	for _, p := range []*corev1.Probe{pod.Spec.Containers[0].ReadinessProbe, pod.Spec.Containers[0].LivenessProbe, pod.Spec.Containers[0].StartupProbe} {
		require.Equal(t, "debug", p.HTTPGet.Port.StrVal)
		require.Equal(t, corev1.URISchemeHTTP, p.HTTPGet.Scheme)
	}
	service := &corev1.Service{}
	e.Get("registry", service)
	require.Equal(t, "https", service.Spec.Ports[0].Name)
	require.Equal(t, "https", *service.Spec.Ports[0].AppProtocol)
	require.Equal(t, "https", service.Spec.Ports[0].TargetPort.StrVal)

	// A renewed certificate rolls nothing: servers take it over.
	quiet(e, op)
	renewed := issue(t, "mine", 180*24*time.Hour, forService(e, "registry"))
	requests.Reset()
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = renewed.Data })
	e.Until("the new end is in the status", func() bool {
		return e.AppView("registry").Status.SecretExpirations[0].NotAfter.After(time.Now().Add(100 * 24 * time.Hour))
	})
	quiet(e, op)
	require.Len(t, requests.Writes(), 1, "the status: %v", requests.Writes())
	require.Equal(t, d.Generation, deployment(e).Generation)

	requests.Reset()
	touch(e, "registry", "a")
	quiet(e, op)
	require.Empty(t, requests.Requests())
}

func TestACertificateThatCannotBeUsedStopsNoServerThatRuns(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	before := deployment(e).Generation

	controltest.Update(e, av, func(av *v1alpha1.AppView) { withTLS("mine")(&av.Spec) })
	got := e.AppView("registry", "Ready=False/SecretNotFound", "Exposed=False/SecretNotFound", "Stalled=True", "Available=True")
	require.Contains(t, condition(got, "Exposed").Message, "spec.exposure.tls.secretRef names Secret mine")
	e.Event("registry", "SecretNotFound")
	service := &corev1.Service{}
	e.Get("registry", service)
	require.Equal(t, "http", service.Spec.Ports[0].TargetPort.StrVal, "the pods speak HTTP")
	require.Equal(t, before, deployment(e).Generation)

	good, other := issue(t, "mine", 24*time.Hour, forService(e, "registry")), issue(t, "other", time.Hour)
	mine := &corev1.Secret{Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"tls.key": good.Data["tls.key"]}}
	mine.Name, mine.Labels = "mine", good.Labels
	e.Create(mine)
	for _, c := range []struct {
		name, reason, says string
		data               map[string][]byte
	}{
		{"no certificate", "SecretNotFound", "tls.crt", map[string][]byte{"tls.key": good.Data["tls.key"]}},
		{"no key", "SecretNotFound", "tls.key", map[string][]byte{"tls.crt": good.Data["tls.crt"]}},
		{"words", "CertificateInvalid", "tls.crt holds no certificate", map[string][]byte{"tls.crt": []byte("hunter2"), "tls.key": good.Data["tls.key"]}},
		{"another key", "KeyMismatch", "of another key", map[string][]byte{"tls.crt": good.Data["tls.crt"], "tls.key": other.Data["tls.key"]}},
		{"no key in PEM", "CertificateInvalid", "tls.key holds no private key", map[string][]byte{"tls.crt": good.Data["tls.crt"], "tls.key": []byte("hunter2")}},
	} {
		controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = c.data })
		var message string
		e.Until(c.name, func() bool {
			message = condition(e.AppView("registry", "Exposed=False/"+c.reason, "Ready=False/"+c.reason, "Available=True"), "Exposed").Message
			return strings.Contains(message, c.says)
		})
		require.NotContains(t, message, "hunter2")
		require.Equal(t, before, deployment(e).Generation)
	}
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = good.Data })
	e.AppView("registry", "Ready=True", "Exposed=True/Accepted", "Stalled=")
	require.Greater(t, deployment(e).Generation, before)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Exposure.TLS = nil })
	got = e.AppView("registry", "Ready=True", "Exposed=False/NotRequested")
	require.Empty(t, got.Status.SecretExpirations)
	require.Empty(t, variable(deployment(e), names.TLSCertPath))
}

func TestTheEndOfACertificateIsSaidBeforeItComesAndStopsNothing(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	mine := issue(t, "mine", 3*24*time.Hour, forService(e, "registry"), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-87 * 24 * time.Hour) })
	e.Create(mine)
	e.Create(appView("registry", withTLS("mine")))
	got := e.AppView("registry", "Ready=True", "Exposed=True/ExpiringSoon")
	require.Contains(t, condition(got, "Exposed").Message, "renew it")
	require.Equal(t, corev1.EventTypeWarning, e.Event("registry", "ExpiringSoon").Type)

	// It ends while the operator looks on; nobody touches anything.
	ends := issue(t, "mine", 3*time.Second, forService(e, "registry"), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-90 * 24 * time.Hour) })
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = ends.Data })
	got = e.AppView("registry", "Ready=False/Expired", "Exposed=False/Expired", "Available=True", "Stalled=True")
	require.Contains(t, condition(got, "Exposed").Message, "the server goes on with it")
	e.Event("registry", "Expired")

	// A server that has to start meanwhile starts with it.
	before := deployment(e).Generation
	controltest.Update(e, &v1alpha1.AppView{ObjectMeta: got.ObjectMeta}, func(av *v1alpha1.AppView) { av.Spec.Logging.Level = "debug" })
	e.Until("the change is rolled out", func() bool { return deployment(e).Generation > before })

	other := issue(t, "mine", 24*time.Hour, func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example.com"} })
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = other.Data })
	got = e.AppView("registry", "Ready=False/NameMismatch", "Exposed=False/NameMismatch", "Available=True")
	require.Contains(t, condition(got, "Exposed").Message, "registry."+e.Namespace+".svc.cluster.local")

	renewed := issue(t, "mine", 90*24*time.Hour, forService(e, "registry"))
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = renewed.Data })
	e.AppView("registry", "Ready=True", "Exposed=True/Accepted")
}

func TestCertManagerMakesTheServersCertificate(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Install(optional.Certificate)
	e.Operator()
	e.Kubelet()
	av := appView("registry", byIngress, func(s *v1alpha1.AppViewSpec) {
		s.AllowedHosts = []v1alpha1.Host{"registry.lan:5000", "192.0.2.7:5000"}
		s.Exposure.TLS = &v1alpha1.TLS{CertManager: &v1alpha1.TLSCertificate{
			IssuerRef: v1alpha1.IssuerReference{Name: "ca", Kind: "ClusterIssuer"}, Duration: "720h"}}
	})
	e.Create(av)
	got := e.AppView("registry", "Ready=False/CertificateNotReady", "Exposed=False/CertificateNotReady", "Available=False/Waiting", "Reconciling=True")
	require.Equal(t, "https://registry.example.com", got.Status.URL)

	certificate := e.Object(optional.Certificate, "registry-server-tls")
	dnsNames, _, err := unstructured.NestedStringSlice(certificate.Object, "spec", "dnsNames")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"r.example.com", "registry", "registry." + e.Namespace, "registry." + e.Namespace + ".svc",
		"registry." + e.Namespace + ".svc.cluster.local", "registry.example.com", "registry.lan"}, dnsNames)
	addresses, _, err := unstructured.NestedStringSlice(certificate.Object, "spec", "ipAddresses")
	require.NoError(t, err)
	require.Equal(t, []string{"192.0.2.7"}, addresses)
	kind, _, err := unstructured.NestedString(certificate.Object, "spec", "issuerRef", "kind")
	require.NoError(t, err)
	require.Equal(t, "ClusterIssuer", kind)

	e.SetStatus(optional.Certificate, "registry-server-tls", map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": "False", "reason": "Pending", "message": "Issuer ca is not ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}}})
	e.Until("the condition says why", func() bool {
		return strings.Contains(condition(e.AppView("registry"), "Exposed").Message, "Issuer ca is not ready")
	})

	labels, _, err := unstructured.NestedStringMap(certificate.Object, "spec", "secretTemplate", "labels")
	require.NoError(t, err)
	issued := issue(t, "registry-server-tls", 90*24*time.Hour)
	issued.Labels = labels
	e.Create(issued)
	got = e.AppView("registry", "Ready=True", "Exposed=True/Accepted", "Available=True")
	require.Contains(t, condition(got, "Exposed").Message, "Ingress registry routes")
	require.Contains(t, condition(got, "Exposed").Message, "Secret registry-server-tls")

	// Public issuers take public names only.
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Exposure.TLS.CertManager.DNSNames = []v1alpha1.Hostname{"registry.example.com"}
	})
	e.Until("only the listed name is asked for", func() bool {
		o := e.Object(optional.Certificate, "registry-server-tls")
		dnsNames, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "dnsNames")
		_, addresses, _ := unstructured.NestedStringSlice(o.Object, "spec", "ipAddresses")
		return len(dnsNames) == 1 && !addresses
	})

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Exposure.TLS = nil })
	e.AppView("registry", "Ready=True", "Exposed=True/Accepted")
	e.Until("the Certificate is gone", func() bool {
		return apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(certificate), optional.Certificate.New()))
	})
}

// An operator that has just started, and that the API server does not say whether there are Certificates, deletes none of
// the Secrets that one may bring back.
func TestNothingIsDeletedWhileNobodyKnowsWhetherThereIsACertificate(t *testing.T) {
	e := controltest.New(t)
	e.Install(optional.Certificate)
	first := e.Operator()
	av := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.DeletionPolicy.Keys = v1alpha1.Delete
		s.Exposure.TLS = &v1alpha1.TLS{CertManager: &v1alpha1.TLSCertificate{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
	})
	e.Create(av)
	e.AppView("registry", "KeysReady=True", "Exposed=False/CertificateNotReady")
	first.Stop()
	require.NoError(t, e.Client.Delete(t.Context(), av))

	trouble := &controltest.Fault{Method: http.MethodGet, Path: "/certificates"}
	var reconciles controltest.Reconciles
	e.Operator(controltest.With(trouble), reconciles.Watch)
	e.Until("it was tried more than once", func() bool { return reconciles.Of("appview", "registry") > 2 })
	require.NotEmpty(t, trouble.Times())
	e.Get("registry", av)
	require.Contains(t, av.Finalizers, v1alpha1.Finalizer)
	e.Get("registry-signing", &corev1.Secret{})
	require.Nil(t, e.Object(optional.Certificate, "registry-server-tls").GetDeletionTimestamp())

	trouble.Off()
	gone(e, av)
	certificate := optional.Certificate.New()
	err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry-server-tls"}, certificate)
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

// cert-manager issues a Secret again as long as its Certificate is there.
func TestASecretOfCertManagersGoesAfterItsCertificate(t *testing.T) {
	e := controltest.New(t)
	e.Install(optional.Certificate)
	e.Operator()
	av := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.DeletionPolicy.Keys = v1alpha1.Delete
		s.Keys.Signing = v1alpha1.SigningKey{Source: v1alpha1.KeyCertManager, CertManager: &v1alpha1.CertManagerKey{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
		s.Exposure.TLS = &v1alpha1.TLS{CertManager: &v1alpha1.TLSCertificate{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
	})
	e.Create(av)
	e.AppView("registry", "KeysReady=False/CertificateNotReady", "Exposed=False/CertificateNotReady")
	names := []string{"registry-signing-source", "registry-server-tls"}
	for _, name := range names {
		// What cert-manager would have written, with the labels of secretTemplate; and it has not seen the end yet.
		certificate := e.Object(optional.Certificate, name)
		labels, _, err := unstructured.NestedStringMap(certificate.Object, "spec", "secretTemplate", "labels")
		require.NoError(t, err)
		e.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, StringData: map[string]string{"tls.crt": "", "tls.key": ""}})
		controltest.Update(e, certificate, func(o *unstructured.Unstructured) { o.SetFinalizers([]string{"test/held"}) })
	}
	require.NoError(t, e.Client.Delete(t.Context(), av))
	for _, name := range names {
		e.Until("the Certificate is to go", func() bool { return e.Object(optional.Certificate, name).GetDeletionTimestamp() != nil })
	}
	for _, name := range names {
		e.Get(name, &corev1.Secret{}) // as long as a Certificate is there
		controltest.Update(e, e.Object(optional.Certificate, name), func(o *unstructured.Unstructured) { o.SetFinalizers(nil) })
	}
	gone(e, av)
	for _, name := range names {
		err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: name}, &corev1.Secret{})
		require.True(t, apierrors.IsNotFound(err), name)
	}
}
