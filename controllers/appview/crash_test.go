package appview_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/manager"
)

// crashPoints is more than the writes of a registry's birth and one rotation.
const crashPoints = 32

// mortal is an operator that may crash, and its successor.
type mortal struct {
	e       *controltest.Env
	crash   *controltest.Crash
	first   *controltest.Operator
	options []controltest.Option
	buried  bool
}

// until waits for done; when the operator crashes meanwhile, another one starts.
func (m *mortal) until(what string, done func() bool) {
	m.e.Helper()
	m.e.Until(what, func() bool {
		if !m.buried && m.crash.Crashed() != "" {
			m.buried = true
			m.first.Stop()
			m.e.Operator(m.options...)
		}
		return done()
	})
}

func TestAnOperatorThatEndsBetweenAnyTwoWritesLeavesWhatTheNextOneGoesOnFrom(t *testing.T) {
	t.Parallel()
	crashAfterEach(t, crashPoints, dieAndGoOn)
}

// crashAfterEach runs a test once for each number of writes below points, after which its operator ends. The test says which
// write was not made; the last has to make them all.
func crashAfterEach(t *testing.T, points int, run func(t *testing.T, n int) string) {
	var mu sync.Mutex
	made := map[int]string{}
	t.Cleanup(func() {
		if !t.Failed() && len(made) == points {
			require.Empty(t, made[points-1], "there are more writes than crash points: try more")
		}
	})
	for n := range points {
		t.Run(fmt.Sprintf("after %d writes", n), func(t *testing.T) {
			t.Parallel()
			point := run(t, n)
			t.Logf("the first write that was not made: %s", point)
			mu.Lock()
			defer mu.Unlock()
			made[n] = point
		})
	}
}

// dieAndGoOn makes an AppView and rotates its key once, with an operator that ends after n writes and another one that
// takes over, and says which write was not made.
func dieAndGoOn(t *testing.T, n int) string {
	e := controltest.New(t)
	servers := &controltest.Servers{}
	crash := &controltest.Crash{After: n}
	options := []controltest.Option{servers.Asked(), propagation(10 * time.Millisecond)}
	m := &mortal{e: e, crash: crash, options: options}
	seen := e.WatchSecrets(servers, "10.1.1.1")
	m.first = e.Operator(append(options, crash.Option)...)
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	ready := func() bool {
		got := &v1alpha1.AppView{}
		e.Get("registry", got)
		c := condition(got, "Ready")
		return c.Status == "True" && got.Status.ObservedGeneration == got.Generation
	}
	m.until("the AppView is Ready", ready)
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	e.Serving(d, "10.1.1.1")
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
	m.until("the key is rotated", func() bool {
		got := &v1alpha1.AppView{}
		e.Get("registry", got)
		keys := got.Status.Keys.Signing
		return keys.LastRequest == "1" && keys.Next != nil && len(keys.Retired) == 1 && keys.Retired[0].Until != nil && ready()
	})
	// Nothing is left to do. A crash that comes now, with the last status, is one too.
	m.until("nothing more", ready)

	seen.RotatedOnce("registry")
	return crash.Crashed()
}

func TestTwoOperatorsAtOnceMakeAndRotateOneKey(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	servers := &controltest.Servers{}
	seen := e.WatchSecrets(servers, "10.1.1.1")
	// As when a leader that was cut off does not know yet. Neither has caches that wait for its own writes, as with a list
	// of namespaces.
	several := func(_ *rest.Config, o *manager.Options) { o.Namespaces = append(o.Namespaces, "default") }
	for range 2 {
		e.Operator(servers.Asked(), propagation(10*time.Millisecond), several)
	}
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	e.AppView("registry", "Ready=True")
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	e.Serving(d, "10.1.1.1")
	for i := range 3 {
		controltest.Annotate(e, av, v1alpha1.AnnotationRotate, fmt.Sprint(i))
		e.Until("rotation", func() bool {
			keys := e.AppView("registry").Status.Keys.Signing
			return keys.LastRequest == fmt.Sprint(i) && keys.Next != nil && len(keys.Retired) == i+1 && keys.Retired[i].Until != nil
		})
	}
	signed := map[string]bool{}
	var before *keyset.Set
	for _, s := range seen.Of("registry-signing") {
		set, err := keyset.Parse(s.Data)
		require.NoError(t, err)
		signed[set.Current.Kid] = true
		if before != nil {
			require.True(t, controltest.Verifies(set, before.Current.Kid))
			require.True(t, controltest.Verifies(before, set.Current.Kid))
		}
		before = set
	}
	require.Len(t, signed, 4, "one to begin with, and one for each request")
}

func TestAServerThatIsNotReadyForAMomentHoldsUpAChangeOfKeysToo(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	servers := &controltest.Servers{}
	e.Operator(servers.Asked(), propagation(10*time.Millisecond))
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	e.AppView("registry", "Ready=True")
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	servers.Load(e, "registry", "10.1.1.1")
	p := e.Serving(d, "10.1.1.1")
	// Its database is away: it will serve again with the keys that it has.
	p.Status.Conditions[0].Status = corev1.ConditionFalse
	require.NoError(t, e.Client.Status().Update(t.Context(), p))
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
	e.AppView("registry", "KeysReady=True/Rotating")
	e.Until("the next key", func() bool { s := signing(e, "registry"); return len(s.Retired) == 1 && s.Next != nil })
	require.Zero(t, signing(e, "registry").Retired[0].Until, "that server still signs with it")
	servers.Load(e, "registry", "10.1.1.1")
	e.Until("an end of the old key", func() bool { return !signing(e, "registry").Retired[0].Until.IsZero() })
}

func TestARequestLongerThanStatusCanShowIsCarriedOutOnce(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator(propagation(10 * time.Millisecond))
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	before := e.AppView("registry", "Ready=True").Status.Keys.Signing
	long := ""
	for range 300 {
		long += "ä"
	}
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, long)
	e.Event("registry", "KeyRotated")
	e.Until("it is carried out", func() bool {
		keys := e.AppView("registry", "Ready=True").Status.Keys.Signing
		return keys.Current.Kid == before.Next.Kid && keys.LastRequest == long[:2*253]
	})
}

func TestASigningSecretWhoseRecordWasRemovedKeepsEveryKey(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"), propagation(10*time.Millisecond))
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
	e.Until("it is rotated", func() bool { s := signing(e, "registry"); return len(s.Retired) == 1 && s.Next != nil })
	before := signing(e, "registry")
	s := &corev1.Secret{}
	e.Get("registry-signing", s)
	controltest.Update(e, s, func(s *corev1.Secret) { delete(s.Annotations, v1alpha1.AnnotationKeySet) })
	// What was asked for is carried out once more, since nobody knows that it was; nothing else changes.
	e.Until("it is well again", func() bool {
		s := signing(e, "registry")
		return s.Current.Kid == before.Next.Kid && s.Next != nil && s.Request == "1"
	})
	for _, k := range before.Verifying() {
		require.True(t, controltest.Verifies(signing(e, "registry"), k.Kid))
	}
}

func TestAnImmutableSigningSecretIsSaidToBeOneAndTheServerKeepsItsKey(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	op := e.Operator(propagation(10 * time.Millisecond))
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	e.AppView("registry", "Ready=True")
	before := currentKid(e, "registry")
	s := &corev1.Secret{}
	e.Get("registry-signing", s)
	controltest.Update(e, s, func(s *corev1.Secret) { s.Immutable = new(true) })
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
	got := e.AppView("registry", "KeysReady=False/KeyInvalid", "Available=True")
	require.Contains(t, condition(got, "KeysReady").Message, "immutable")
	require.Equal(t, before, currentKid(e, "registry"))

	again := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Labels: s.Labels, Annotations: s.Annotations}, Type: s.Type, Data: s.Data}
	op.Stop() // in between it would make another
	require.NoError(t, e.Client.Delete(t.Context(), s))
	e.Create(again)
	e.Operator(propagation(10 * time.Millisecond))
	e.Until("the rotation is carried out", func() bool { return currentKid(e, "registry") != before })
	e.AppView("registry", "Ready=True", "KeysReady=True/Generated")
}

// mutes are servers that cannot be asked, each of them slowly.
type mutes struct{ wait time.Duration }

// Ready implements appview.Readiness.
func (m mutes) Ready(ctx context.Context, _ string) (out names.Ready, err error) {
	timeout := time.NewTimer(m.wait)
	defer timeout.Stop()
	select {
	case <-ctx.Done():
	case <-timeout.C:
	}
	return out, errors.New("no connection")
}

func TestFiftyServersThatCannotBeAskedHoldUpARotationForAWhileOnly(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"), propagation(10*time.Millisecond), func(_ *rest.Config, o *manager.Options) { o.Readiness = mutes{200 * time.Millisecond} })
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	for i := range 50 {
		e.Serving(d, fmt.Sprintf("10.1.1.%d", i+1))
	}
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
	e.Until("the rotation ends", func() bool {
		keys := e.AppView("registry").Status.Keys.Signing
		return keys.LastRequest == "1" && len(keys.Retired) == 1 && keys.Retired[0].Until != nil
	})
}

// changePoints is more than the writes of a registry that gets another database and other things around it, and is deleted.
const changePoints = 26

func TestAnOperatorThatEndsWhileARegistryChangesOrGoesLeavesNothingUndone(t *testing.T) {
	t.Parallel()
	crashAfterEach(t, changePoints, changeAndGo)
}

// changeAndGo has a registry that runs take another database, an autoscaler, a budget, a network policy and files for nodes,
// and give up its Ingress; and deletes it with its keys. The operator ends after n writes, and another one takes over.
func changeAndGo(t *testing.T, n int) string {
	e := controltest.New(t)
	first := e.Operator()
	e.Kubelet()
	av := appView("registry", byIngress, func(s *v1alpha1.AppViewSpec) {
		s.BaseURL, s.DeletionPolicy.Keys = "https://registry.example.com", v1alpha1.Delete
	})
	e.Create(cnpg(), av)
	e.AppView("registry", "Ready=True", "Exposed=True")
	first.Stop()
	m := &mortal{e: e, crash: &controltest.Crash{After: n}}
	m.first = e.Operator(m.crash.Option)

	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		scalable(&av.Spec)
		scaling(&av.Spec)
		byPolicy(&av.Spec)
		nodesPull(&av.Spec)
		av.Spec.Exposure.Ingress = nil
	})
	m.until("the registry is as it is asked for now", func() bool {
		got := &v1alpha1.AppView{}
		e.Get("registry", got)
		ready := condition(got, "Ready")
		return ready.Status == "True" && ready.ObservedGeneration == av.Generation && condition(got, "ClusterPullReady").Status == "True"
	})
	there := func(o client.Object, name string) bool {
		err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: name}, o)
		require.NoError(t, client.IgnoreNotFound(err))
		return err == nil && o.GetDeletionTimestamp().IsZero()
	}
	for _, o := range []client.Object{&autoscalingv2.HorizontalPodAutoscaler{}, &policyv1.PodDisruptionBudget{}, &networkingv1.NetworkPolicy{}} {
		require.True(t, there(o, "registry"), "%T", o)
	}
	require.True(t, there(&corev1.ConfigMap{}, "registry-node-config"))
	require.False(t, there(&networkingv1.Ingress{}, "registry"))

	require.NoError(t, e.Client.Delete(t.Context(), av))
	m.until("the AppView is gone", func() bool {
		return apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(av), &v1alpha1.AppView{}))
	})
	for _, suffix := range []string{"-signing", "-signing-next", "-oauth", "-did", "-sealing"} {
		require.False(t, there(&corev1.Secret{}, "registry"+suffix), suffix)
	}
	claim := &corev1.PersistentVolumeClaim{}
	require.True(t, there(claim, "registry-data"), "its data stays")
	require.Equal(t, "true", claim.Labels[v1alpha1.LabelRetained])
	return m.crash.Crashed()
}
