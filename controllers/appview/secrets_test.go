package appview_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

func consumed(e *controltest.Env) string {
	e.Helper()
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	return d.Spec.Template.Annotations[v1alpha1.AnnotationConsumedHash]
}

func TestALostSigningKeyIsReplacedByTheOneThatServersKnow(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	e.Create(appView("registry"))
	av := e.AppView("registry", "Ready=True")
	kid, next, hash := currentKid(e, "registry"), av.Status.Keys.Signing.Next.Kid, consumed(e)

	secret := &corev1.Secret{}
	e.Get("registry-signing", secret)
	require.NoError(t, e.Client.Delete(t.Context(), secret))
	ev := e.Event("registry", "KeyReplaced")
	require.Equal(t, corev1.EventTypeWarning, ev.Type)
	require.Contains(t, ev.Note, kid)
	require.Equal(t, next, currentKid(e, "registry"))
	e.AppView("registry", "Ready=True")
	require.Equal(t, hash, consumed(e), "servers load signing keys by themselves")
}

// Nobody else says that sessions are over, or that a database begins empty.
func TestWhatIsGoneAndMadeAgainIsSaid(t *testing.T) {
	t.Parallel()
	e, _ := running(t, appView("registry"))
	require.Zero(t, e.Told("registry", "KeyReplaced"))
	for name, says := range map[string]string{
		"registry-oauth": "users log in again", "registry-sealing": "users log in again", "registry-did": "DID document",
	} {
		before, secret := consumed(e), &corev1.Secret{}
		e.Get(name, secret)
		require.NoError(t, e.Client.Delete(t.Context(), secret))
		e.Until(name+" is made again, and said", func() bool {
			return slices.ContainsFunc(e.Events("registry"), func(ev eventsv1.Event) bool {
				return ev.Reason == "KeyReplaced" && ev.Type == corev1.EventTypeWarning && strings.Contains(ev.Note, name) && strings.Contains(ev.Note, says)
			})
		})
		e.Until("the server starts with it", func() bool { return consumed(e) != before })
	}
	claim := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", claim)
	controltest.Update(e, claim, func(c *corev1.PersistentVolumeClaim) { c.Finalizers = nil })
	require.NoError(t, e.Client.Delete(t.Context(), claim))
	require.Contains(t, e.Event("registry", "ClaimReplaced").Note, "begins empty")
	e.AppView("registry", "Ready=True")
}

// Tokens and clients name the service: with the name of another base URL they would be refused.
func TestAnotherBaseURLKeepsTheNameInTokens(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry", func(s *v1alpha1.AppViewSpec) { s.BaseURL = "https://one.example.com" }))
	service := func() string { return variable(deployment(e), names.ServiceName) }
	require.Equal(t, "one.example.com", service())
	secret := &corev1.Secret{}
	e.Get("registry-signing", secret)
	controltest.Update(e, secret, func(s *corev1.Secret) { delete(s.Annotations, v1alpha1.AnnotationServiceName) }) // as a former operator left it
	e.Until("the name is kept", func() bool {
		e.Get("registry-signing", secret)
		return secret.Annotations[v1alpha1.AnnotationServiceName] == "one.example.com"
	})
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.BaseURL = "https://two.example.com" })
	e.Until("the server has its URL", func() bool { return e.AppView("registry", "Ready=True").Status.URL == "https://two.example.com" })
	require.Equal(t, "one.example.com", service())
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.ServiceName = "three.example.com" })
	e.Until("the spec has the last word", func() bool { return service() == "three.example.com" })
}

// A claim cannot shrink: one that has grown stays as it is when the spec says no size any more.
func TestAClaimThatHasGrownStaysWhenNoSizeIsAskedFor(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry", func(s *v1alpha1.AppViewSpec) { s.Database.SQLite.Size = new(controltest.Quantity("10Gi")) }))
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database.SQLite.Size = nil })
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound")
	claim := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", claim)
	require.Equal(t, "10Gi", claim.Spec.Resources.Requests.Storage().String())
}

func TestAKeyThatCannotBeUsedIsReportedAndNotReplaced(t *testing.T) {
	t.Parallel()
	e, _ := running(t, appView("registry"))
	hash := consumed(e)

	secret := &corev1.Secret{}
	e.Get("registry-signing", secret)
	good := secret.Data[names.FileSigningKey]
	controltest.Update(e, secret, func(s *corev1.Secret) { s.Data[names.FileSigningKey] = []byte("s3cret nonsense") })
	av := e.AppView("registry", "Ready=False/KeyInvalid", "KeysReady=False/KeyInvalid", "Stalled=True/KeyInvalid")
	require.Contains(t, condition(av, "KeysReady").Message, "Secret registry-signing: private-key.pem")
	require.NotContains(t, condition(av, "KeysReady").Message, "s3cret")
	require.Equal(t, hash, consumed(e), "what runs is left alone")
	e.Event("registry", "KeyInvalid")

	controltest.Update(e, secret, func(s *corev1.Secret) { s.Data[names.FileSigningKey] = good })
	e.AppView("registry", "Ready=True")
}

// Two operators, as when a lease is lost, and fifty spec changes in a row: the key's Secret is created once and its
// bytes never change.
func TestAKeyIsMadeOnceWhateverRaces(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Operator()
	e.Kubelet()
	var wg sync.WaitGroup
	const appViews = 10
	for i := range appViews {
		wg.Go(func() {
			name := fmt.Sprintf("registry-%d", i)
			av := appView(name)
			av.Namespace = e.Namespace
			if err := e.Client.Create(t.Context(), av); err != nil {
				t.Error(err)
				return
			}
			for j := range 5 {
				controltest.Update(e, av, func(av *v1alpha1.AppView) {
					av.Spec.AllowedHosts = []v1alpha1.Host{v1alpha1.Host(fmt.Sprintf("h%d.example.com", j))}
				})
			}
		})
	}
	wg.Wait()
	for i := range appViews {
		name := fmt.Sprintf("registry-%d", i)
		av := e.AppView(name, "Ready=True")
		secret := &corev1.Secret{}
		e.Get(name+"-signing", secret)
		for _, f := range secret.ManagedFields {
			require.Equal(t, secret.CreationTimestamp.Unix(), f.Time.Unix(), "created and never written again")
		}
		require.Equal(t, currentKid(e, name), av.Status.Keys.Signing.Current.Kid)
		for _, ev := range e.Events(name) {
			require.NotEqual(t, "KeyReplaced", ev.Reason)
		}
	}
}
