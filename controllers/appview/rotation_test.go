package appview_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/manager"
)

// propagation makes Secrets reach pods within d, as far as the operator is told.
func propagation(d time.Duration) controltest.Option {
	return func(_ *rest.Config, o *manager.Options) { o.KeyPropagation, o.ClockSkew = d, time.Second }
}

func signing(e *controltest.Env, name string) *keyset.Set {
	e.Helper()
	s := &corev1.Secret{}
	e.Get(name+"-signing", s)
	set, err := keyset.Parse(s.Data)
	require.NoError(e, err)
	set.Recall(s.Annotations[v1alpha1.AnnotationKeySet], s.CreationTimestamp.Time)
	return set
}

func TestARotationWaitsForEveryServerAndRollsNoPod(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var servers controltest.Servers
	e.Operator(servers.Asked(), propagation(3*time.Second))
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	waiting := e.AppView("registry", "Ready=True", "KeysReady=True/Generated").Status.Keys.Signing
	before := signing(e, "registry")
	require.Equal(t, before.Next.Kid, waiting.Next.Kid)
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	first, second := e.Serving(d, "10.1.1.1"), e.Serving(d, "10.1.1.2")
	servers.Load(e, "registry", "10.1.1.1")
	servers.Load(e, "registry", "10.1.1.2")

	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "monday")
	e.Until("the next key signs", func() bool { return signing(e, "registry").Current.Kid == before.Next.Kid })
	e.Event("registry", "KeyRotated")

	// The retired key has no end before both servers sign with the new one.
	e.Until("the key after it is published", func() bool { return signing(e, "registry").Next != nil })
	after := signing(e, "registry")
	require.Len(t, after.Retired, 1)
	require.Zero(t, after.Retired[0].Until)
	servers.Load(e, "registry", "10.1.1.1")
	e.AppView("registry", "Ready=True", "KeysReady=True/Rotating")
	require.Zero(t, signing(e, "registry").Retired[0].Until)
	servers.Load(e, "registry", "10.1.1.2")
	got := e.AppView("registry", "Ready=True", "KeysReady=True/Generated")
	require.Equal(t, before.Current.Kid, got.Status.Keys.Signing.Retired[0].Kid)
	require.NotNil(t, got.Status.Keys.Signing.Retired[0].Until)
	require.Equal(t, "monday", got.Status.Keys.Signing.LastRequest)
	require.NotNil(t, got.Status.Keys.Signing.NextRotationTime)

	// Both pods were touched, so that their kubelet looks; the Deployment was not.
	for _, p := range []*corev1.Pod{first, second} {
		e.Get(p.Name, p)
		require.NotEmpty(t, p.Annotations[v1alpha1.AnnotationPoke])
	}
	generation := d.Generation
	e.Get("registry", d)
	require.Equal(t, generation, d.Generation)
}

func TestAServerThatHasNotLoadedTheNextKeyHoldsUpThePromotion(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, av := running(t, appView("registry"), servers.Asked(), propagation(10*time.Millisecond))
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	servers.Load(e, "registry", "10.1.1.1")
	// The next key is lost and made again: the server does not know the new one.
	staged := &corev1.Secret{}
	e.Get("registry-signing-next", staged)
	old := signing(e, "registry")
	pod := e.Serving(d, "10.1.1.1")
	require.NoError(t, e.Client.Delete(t.Context(), staged))
	e.Until("another next key", func() bool {
		n := signing(e, "registry").Next
		return n != nil && n.Kid != old.Next.Kid
	})
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
	got := e.AppView("registry", "Ready=False/ServersBehind", "KeysReady=False/ServersBehind")
	require.Contains(t, condition(got, "KeysReady").Message, pod.Name)
	require.Equal(t, old.Current.Kid, currentKid(e, "registry"))
	next := signing(e, "registry").Next.Kid
	servers.Load(e, "registry", "10.1.1.1")
	e.Until("promotion", func() bool { return currentKid(e, "registry") == next })
}

func TestRevokingLeavesNoTokenOfTheCurrentKey(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	before := currentKid(e, "registry")
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "revoke-leak")
	ev := e.Event("registry", "KeyRevoked")
	require.Equal(t, corev1.EventTypeWarning, ev.Type)
	for _, k := range signing(e, "registry").Verifying() {
		require.NotEqual(t, before, k.Kid)
	}
	e.Until("noted", func() bool {
		return e.AppView("registry", "Ready=True").Status.Keys.Signing.LastRequest == "revoke-leak"
	})
}

func TestARevocationIsNotReadyBeforeEveryServerHasLoadedIt(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, av := running(t, appView("registry"), servers.Asked())
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	leaked := currentKid(e, "registry")
	servers.Load(e, "registry", "10.1.1.1")
	pod := e.Serving(d, "10.1.1.1")
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "revoke-leak")
	e.Event("registry", "KeyRevoked")
	got := e.AppView("registry", "Ready=False/Revoking", "KeysReady=False/Revoking")
	require.Contains(t, condition(got, "KeysReady").Message, leaked)
	require.Contains(t, condition(got, "KeysReady").Message, pod.Name)
	for _, ev := range e.Events("registry") {
		require.NotEqual(t, "RevocationComplete", ev.Reason)
	}
	servers.Load(e, "registry", "10.1.1.1")
	e.AppView("registry", "Ready=True", "KeysReady=True/Generated")
	require.Contains(t, e.Event("registry", "RevocationComplete").Note, leaked)
}

func TestARevocationOfProvidedKeysStaysAskedForUntilTheirSecretChanges(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	mine, first := pair(t, "mine")
	mine.Labels = nil // so it is read every ten minutes only
	av := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.Keys.Signing = v1alpha1.SigningKey{Source: v1alpha1.KeySecretRef, SecretRef: &v1alpha1.KeySecretReference{Name: "mine"}}
		s.Keys.OAuthClient = v1alpha1.OAuthClientKey{Source: v1alpha1.KeySecretRef, SecretRef: &v1alpha1.KeySecretReference{Name: "mine"}}
	})
	e.Create(mine, av)
	e.AppView("registry", "Ready=True")
	pending := func(annotation string) {
		e.Eventually(annotation, func() error {
			got := e.AppView("registry", "Ready=False/RevocationPending", "KeysReady=False/RevocationPending")
			if message := condition(got, "KeysReady").Message; !strings.Contains(message, annotation+"=revoke-1") || !strings.Contains(message, first.Kid) {
				return errors.New(message)
			}
			return nil
		})
	}
	controltest.Annotate(e, av, v1alpha1.AnnotationRotateOAuth, "revoke-1")
	pending(v1alpha1.AnnotationRotateOAuth)
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "revoke-1")
	pending(v1alpha1.AnnotationRotate)

	next, second := pair(t, "mine")
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = next.Data })
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "look again")
	e.Event("registry", "KeyRevoked")
	e.Event("registry", "OAuthKeyRevoked")
	got := e.AppView("registry", "Ready=True", "KeysReady=True/Provided")
	require.Equal(t, []keyset.Public{second.Public()}, signing(e, "registry").Verifying())
	require.Equal(t, "revoke-1", got.Status.Keys.Signing.LastRequest)
	require.Equal(t, second.Kid, got.Status.Keys.OAuthClient.Current.Kid)
	require.Empty(t, got.Status.Keys.OAuthClient.Retired)
}

func TestAnotherAlgorithmRotatesTheKey(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"), propagation(10*time.Millisecond))
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Keys.Signing.Algorithm = v1alpha1.RS256 })
	e.Until("an RSA key signs", func() bool { return signing(e, "registry").Current.Algorithm == keyset.RS256 })
	got := e.AppView("registry", "Ready=True", "KeysReady=True/Generated")
	require.Equal(t, v1alpha1.RS256, got.Status.Keys.Signing.Current.Algorithm)
	require.Len(t, got.Status.Keys.Signing.Retired, 1, "tokens of the EC key verify on")
}

// pair is a Secret of the user's with a key and its certificate.
func pair(t *testing.T, name string) (*corev1.Secret, *keyset.Key) {
	t.Helper()
	return pairOf(t, name, keyset.ES256)
}

func pairOf(t *testing.T, name string, algorithm keyset.Algorithm) (*corev1.Secret, *keyset.Key) {
	t.Helper()
	k, err := keyset.Generate(rand.Reader, algorithm, "x", time.Now())
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(k.Signer)
	require.NoError(t, err)
	s := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate.Raw}),
	}}
	s.Name, s.Labels = name, map[string]string{v1alpha1.LabelWatch: "true"}
	return s, k
}

func TestAProvidedKeyIsStagedNeverMountedAndMayBeReplacedAbruptly(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator(propagation(10 * time.Millisecond))
	e.Kubelet()
	mine, first := pair(t, "mine")
	av := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.Keys.Signing = v1alpha1.SigningKey{Source: v1alpha1.KeySecretRef, SecretRef: &v1alpha1.KeySecretReference{Name: "mine"}}
	})
	e.Create(av)
	got := e.AppView("registry", "Ready=False/SecretNotFound", "KeysReady=False/SecretNotFound", "Stalled=True/SecretNotFound")
	require.Contains(t, condition(got, "KeysReady").Message, "spec.keys.signing.secretRef")
	e.Create(mine)
	got = e.AppView("registry", "Ready=True", "KeysReady=True/Provided")
	require.Equal(t, first.Kid, got.Status.Keys.Signing.Current.Kid)
	require.NotNil(t, got.Status.Keys.Signing.Current.NotAfter)
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Secret != nil {
			require.NotEqual(t, "mine", v.Secret.SecretName)
			require.NotEqual(t, "registry-signing-next", v.Secret.SecretName)
		}
	}

	next, second := pair(t, "mine")
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = next.Data })
	e.Until("the new key signs", func() bool { return currentKid(e, "registry") == second.Kid })
	e.AppView("registry", "Ready=True", "KeysReady=True/Provided")
	require.Equal(t, first.Kid, signing(e, "registry").Retired[0].Kid, "tokens of the replaced key verify on")

	// What cannot be used changes nothing but the condition.
	for what, spoil := range map[string]func(*corev1.Secret){
		"KeyInvalid":     func(s *corev1.Secret) { s.Data["tls.key"] = []byte("s3cret") },
		"KeyMismatch":    func(s *corev1.Secret) { s.Data["tls.crt"] = mine.Data["tls.crt"] },
		"SecretNotFound": func(s *corev1.Secret) { s.Data = map[string][]byte{"other": {1}} },
	} {
		other, _ := pair(t, "mine")
		controltest.Update(e, mine, func(s *corev1.Secret) {
			// The type wants both entries to be there, so the Secret is made anew.
			s.Data = other.Data
			if what != "SecretNotFound" {
				s.Data["tls.crt"], s.Data["tls.key"] = next.Data["tls.crt"], other.Data["tls.key"]
				spoil(s)
			}
		})
		if what == "SecretNotFound" {
			require.NoError(t, e.Client.Delete(t.Context(), mine))
			mine = &corev1.Secret{Data: map[string][]byte{"other": {1}}}
			mine.Name, mine.Labels = "mine", map[string]string{v1alpha1.LabelWatch: "true"}
			e.Create(mine)
		}
		got = e.AppView("registry", "KeysReady=False/"+what)
		require.NotContains(t, condition(got, "KeysReady").Message, "s3cret")
		require.Equal(t, second.Kid, currentKid(e, "registry"), what)
		if what == "SecretNotFound" {
			require.NoError(t, e.Client.Delete(t.Context(), mine))
			mine = next.DeepCopy()
			e.Create(mine)
		} else {
			controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = next.Data })
		}
		e.AppView("registry", "Ready=True", "KeysReady=True/Provided")
	}
}

// The set that begins again with the same provided key has not carried the revocation out.
func TestARevocationThatWaitsOutlivesALostKeySet(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator(propagation(10 * time.Millisecond))
	e.Kubelet()
	mine, first := pair(t, "mine")
	av := appView("registry", signedBy("mine"))
	e.Create(mine, av)
	e.AppView("registry", "Ready=True", "KeysReady=True/Provided")
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "revoke-1")
	e.AppView("registry", "KeysReady=False/RevocationPending")
	lost := &corev1.Secret{}
	e.Get("registry-signing", lost)
	require.NoError(t, e.Client.Delete(t.Context(), lost))
	e.Until("the set is made again", func() bool {
		again := &corev1.Secret{}
		return e.Client.Get(t.Context(), client.ObjectKeyFromObject(lost), again) == nil && again.UID != lost.UID
	})
	e.Until("the operator has seen it", func() bool { return e.Told("registry", "KeyGenerated") == 2 })
	require.Equal(t, first.Kid, currentKid(e, "registry"))
	require.Empty(t, e.AppView("registry", "KeysReady=False/RevocationPending").Status.Keys.Signing.LastRequest)

	next, second := pair(t, "mine")
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = next.Data })
	e.Event("registry", "KeyRevoked")
	got := e.AppView("registry", "Ready=True", "KeysReady=True/Provided").Status.Keys.Signing
	require.Equal(t, second.Kid, got.Current.Kid)
	require.Empty(t, got.Retired)
	require.Equal(t, "revoke-1", got.LastRequest)
}

func TestACertificateThatEndsSoonIsSaidToWhileItsKeySigns(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	op := e.Operator(propagation(10 * time.Millisecond))
	e.Kubelet()
	mine, _ := pair(t, "mine")
	mine.Data = certified(t, time.Now().Add(48*time.Hour))
	av := appView("registry", signedBy("mine"))
	e.Create(mine, av)
	got := e.AppView("registry", "Ready=True", "KeysReady=True/ExpiringSoon")
	require.Contains(t, condition(got, "KeysReady").Message, "Secret mine")
	require.Contains(t, condition(got, "KeysReady").Message, "renew it")
	mine.Data = certifiedFor(t, 6*24*time.Hour, time.Now().Add(5*24*time.Hour)) // of a short one, the last quarter is soon
	require.NoError(t, e.Client.Update(t.Context(), mine))
	got = e.AppView("registry", "Ready=True", "KeysReady=True/Provided")

	const series = "atcr_appview_certificate_not_after_timestamp_seconds ="
	e.Until("its end is a metric", func() bool {
		return seriesOf(t, op.Metrics, "registry")[series] == float64(got.Status.SecretExpirations[0].NotAfter.Unix())
	})
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Keys.Signing = v1alpha1.SigningKey{} })
	e.Until("a certificate that is not named any more has none", func() bool {
		_, there := seriesOf(t, op.Metrics, "registry")[series]
		return !there
	})
}

func TestAKeyThatWaitsForItsTurnSaysWhenItsCertificateEnds(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator(propagation(time.Hour))
	e.Kubelet()
	mine, first := pair(t, "mine")
	e.Create(mine, appView("registry", signedBy("mine")))
	e.AppView("registry", "Ready=True", "KeysReady=True/Provided")
	next, second := pair(t, "mine")
	controltest.Update(e, mine, func(s *corev1.Secret) { s.Data = next.Data })
	e.Until("the replaced key waits", func() bool {
		keys := e.AppView("registry").Status.Keys.Signing
		return keys.Next != nil && keys.Next.Kid == second.Kid && keys.Next.NotAfter != nil &&
			keys.Current.Kid == first.Kid && keys.Current.NotAfter == nil
	})
}

func TestAnUnlabelledSecretIsReadAtMostOnceInTenMinutes(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	mine, _ := pair(t, "mine")
	mine.Labels = nil
	e.Create(mine, appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.Keys.Signing = v1alpha1.SigningKey{Source: v1alpha1.KeySecretRef, SecretRef: &v1alpha1.KeySecretReference{Name: "mine"}}
	}))
	e.AppView("registry", "Ready=True")
	quiet(e, op)
	requests.Reset()
	for i := range 3 {
		before := reconciles(t, op.Metrics)
		touch(e, "registry", fmt.Sprint(i))
		e.Until("a reconcile", func() bool { return reconciles(t, op.Metrics) != before })
	}
	quiet(e, op)
	require.Empty(t, requests.Requests())
}

func TestTheOAuthKeyRotatesOnRequestAndKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	got := e.AppView("registry", "Ready=True")
	first, hash := got.Status.Keys.OAuthClient.Current.Kid, consumed(e)
	controltest.Annotate(e, av, v1alpha1.AnnotationRotateOAuth, "1")
	e.Event("registry", "OAuthKeyRotated")
	e.Until("servers are restarted with it", func() bool { return consumed(e) != hash })
	e.Until("status names it", func() bool { // an annotation makes no new generation to wait for
		got = e.AppView("registry", "Ready=True")
		return first != got.Status.Keys.OAuthClient.Current.Kid
	})
	require.Equal(t, first, got.Status.Keys.OAuthClient.Retired[0].Kid)
	require.Equal(t, "1", got.Status.Keys.OAuthClient.LastRequest)

	controltest.Annotate(e, av, v1alpha1.AnnotationRotateOAuth, "revoke-2")
	e.Event("registry", "OAuthKeyRevoked")
	e.Until("no old key", func() bool {
		av := e.AppView("registry", "Ready=True")
		return len(av.Status.Keys.OAuthClient.Retired) == 0
	})
}

func TestAReconcileThatIsAskedForIsAcknowledged(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "now")
	e.Until("acknowledged", func() bool { return e.AppView("registry", "Ready=True").Status.LastHandledReconcileAt == "now" })

	// Status has no room for a longer one: its beginning is enough.
	long := strings.Repeat("é", 300)
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, long)
	e.Until("acknowledged", func() bool {
		return e.AppView("registry", "Ready=True").Status.LastHandledReconcileAt == strings.Repeat("é", 253)
	})
}
