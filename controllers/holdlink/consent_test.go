package holdlink_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	apiac "atcr.io/operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/optional"
)

func reason(link *v1alpha1.HoldLink, kind string) string {
	for _, c := range link.Status.Conditions {
		if c.Type == kind {
			return c.Message
		}
	}
	return ""
}

func grant(namespace, from, service string) *unstructured.Unstructured {
	o := optional.ReferenceGrant.New()
	o.SetName("holds")
	o.SetNamespace(namespace)
	to := map[string]any{"group": "", "kind": "Service"}
	if service != "" {
		to["name"] = service
	}
	o.Object["spec"] = map[string]any{
		"from": []any{map[string]any{"group": v1alpha1.SchemeGroupVersion.Group, "kind": "HoldLink", "namespace": from}},
		"to":   []any{to},
	}
	return o
}

func TestAServiceOfAnotherNamespaceNeedsItsConsent(t *testing.T) {
	e := controltest.New(t)
	var reconciles controltest.Reconciles
	e.Operator(controltest.Everywhere(), reconciles.Watch)
	storage := e.OtherNamespace(nil)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "hold", Namespace: storage}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold"}}
	link.Spec.AppViewRef.Name = "registry"
	link.Spec.Hold.ServiceRef = &v1alpha1.ServiceReference{Name: "hold", Namespace: v1alpha1.NamespaceName(storage)}
	e.Create(svc, &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}, link)
	got := e.HoldLink("hold", "Ready=False/RefNotPermitted", "Resolved=False/RefNotPermitted", "Stalled=True", "Healthy=Unknown")
	require.Contains(t, reason(got, "Resolved"), "does not serve ReferenceGrants")
	e.Event("hold", "RefNotPermitted")

	e.Install(optional.ReferenceGrant)
	e.Until("the remedy", func() bool {
		return strings.Contains(reason(e.HoldLink("hold", "Resolved=False/RefNotPermitted"), "Resolved"), "create a ReferenceGrant there")
	})
	for name, wrong := range map[string]*unstructured.Unstructured{
		"of another namespace": grant(storage, "elsewhere", ""), "to another Service": grant(storage, e.Namespace, "other"),
	} {
		before := reconciles.Of("holdlink", "hold")
		e.Create(wrong)
		e.Until("the grant was looked at", func() bool { return reconciles.Of("holdlink", "hold") > before })
		before = reconciles.Of("holdlink", "hold")
		require.NoError(t, e.Client.Delete(t.Context(), wrong)) // by then, what it was taken for is written
		e.Until("and its end", func() bool { return reconciles.Of("holdlink", "hold") > before })
		require.Zero(t, e.Told("hold", "FetchFailed"), "%s: the hold was not called", name)
	}

	// No name resolves here: with the grant the hold is looked for, and not found.
	right := grant(storage, e.Namespace, "hold")
	e.Create(right)
	got = e.HoldLink("hold", "Resolved=False/FetchFailed")
	require.Contains(t, reason(got, "Resolved"), "hold."+storage+".svc.cluster.local")
	require.NoError(t, e.Client.Delete(t.Context(), right))
	e.HoldLink("hold", "Resolved=False/RefNotPermitted")
	e.Create(grant(storage, e.Namespace, "")) // to every Service
	e.HoldLink("hold", "Resolved=False/FetchFailed")

	require.NoError(t, e.Client.Delete(t.Context(), e.Definition(optional.ReferenceGrant)))
	e.Until("the remedy", func() bool {
		return strings.Contains(reason(e.HoldLink("hold", "Resolved=False/RefNotPermitted"), "Resolved"), "does not serve ReferenceGrants")
	})

	// It was found once. That nobody can read grants is no word about them; that there is none is.
	did := "did:web:hold." + storage + ".svc.cluster.local"
	e.Eventually("the hold was found", func() error {
		e.Get("hold", link)
		link.Status.DID = did
		raw, err := json.Marshal(link.Status)
		require.NoError(t, err)
		var status apiac.HoldLinkStatusApplyConfiguration
		require.NoError(t, json.Unmarshal(raw, &status))
		// As the operator would have written it, so that it may take it away.
		return e.Client.Status().Apply(t.Context(), apiac.HoldLink("hold", e.Namespace).WithResourceVersion(link.ResourceVersion).WithStatus(&status),
			apply.FieldOwner, client.ForceOwnership)
	})
	controltest.Update(e, link, func(l *v1alpha1.HoldLink) { l.Spec.DisplayName = "Hold" })
	e.HoldLink("hold", "Resolved=False/RefNotPermitted")
	require.Equal(t, did, e.HoldLink("hold").Status.DID)
	e.Install(optional.ReferenceGrant)
	e.Until("consent is looked for", func() bool {
		return strings.Contains(reason(e.HoldLink("hold", "Resolved=False/RefNotPermitted"), "Resolved"), "create a ReferenceGrant there")
	})
	require.Empty(t, e.HoldLink("hold").Status.DID)
	require.NoError(t, e.Client.Delete(t.Context(), e.Definition(optional.ReferenceGrant)))
}

func TestAnOperatorThatDoesNotWatchTheOtherNamespaceSaysSo(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold"}}
	link.Spec.AppViewRef.Name = "registry"
	link.Spec.Hold.ServiceRef = &v1alpha1.ServiceReference{Name: "hold", Namespace: "elsewhere"}
	e.Create(&v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}, link)
	require.Contains(t, reason(e.HoldLink("hold", "Resolved=False/RefNotPermitted"), "Resolved"), "--watch-namespaces")
}

func TestAHoldOfAPrivateAuthority(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewSecureHold()
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold"}}
	link.Spec.AppViewRef.Name = "registry"
	link.Spec.Hold.URL = v1alpha1.Origin(hold.URL)
	link.Spec.HealthCheck.FailureThreshold = 1
	e.Create(&v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}, link)
	require.Contains(t, reason(e.HoldLink("hold", "Resolved=False/FetchFailed"), "Resolved"), "certificate that the operator trusts")

	controltest.Update(e, link, func(l *v1alpha1.HoldLink) {
		l.Spec.Trust.CABundleSecretRef = &v1alpha1.CASecretReference{Name: "ca", Key: "root.pem"}
	})
	require.Contains(t, reason(e.HoldLink("hold", "Resolved=False/CABundleInvalid", "Stalled=True"), "Resolved"), "Secret ca, which does not exist")
	e.Event("hold", "CABundleInvalid")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "ca", Labels: map[string]string{v1alpha1.LabelWatch: "true"}},
		StringData: map[string]string{"root.pem": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"}}
	e.Create(secret)
	e.Until("the entry is looked at", func() bool {
		return strings.Contains(reason(e.HoldLink("hold", "Resolved=False/CABundleInvalid"), "Resolved"), "holds no certificate in PEM")
	})
	put := func(content string) {
		t.Helper()
		controltest.Update(e, secret, func(s *corev1.Secret) { s.Data["root.pem"] = []byte(content) })
	}
	put("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n" + hold.CA)
	e.HoldLink("hold", "Ready=True", "Resolved=True", "Healthy=True")
	e.AppView("registry", "Ready=True", "HoldsHealthy=True")
	require.Equal(t, hold.CA, believed(e, hold.DID), "the servers are told the certificates, and nothing else of the Secret")

	// Another authority: the hold is asked by it at once, and the servers are told.
	another := anotherCA(t)
	put(another)
	e.HoldLink("hold", "Resolved=True", "Healthy=False/TLSError")
	e.Until("the servers are told", func() bool { return believed(e, hold.DID) == another })
	put(hold.CA)
	e.HoldLink("hold", "Ready=True", "Healthy=True")
	e.Until("the servers are told", func() bool { return believed(e, hold.DID) == hold.CA })

	// One that is gone ends nothing that runs.
	require.NoError(t, e.Client.Delete(t.Context(), secret))
	e.HoldLink("hold", "Resolved=False/CABundleInvalid")
	e.AppView("registry", "Ready=True")
	require.Equal(t, hold.CA, believed(e, hold.DID))
}

// believed is the certificates that the servers trust for a hold.
func believed(e *controltest.Env, did string) string {
	e.Helper()
	file := told(e)
	for _, h := range file.Holds {
		if h.DID == did {
			return file.CABundles[h.CABundle]
		}
	}
	return "the hold is not told"
}

// anotherCA is the certificate of an authority that has signed nothing.
func anotherCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}
