package main

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

// operatorVariable makes the test's program the operator.
const operatorVariable = "ATCR_TEST_OPERATOR"

func TestMain(m *testing.M) {
	if os.Getenv(operatorVariable) != "" {
		main()
		return
	}
	os.Exit(controltest.Main(m))
}

// Whatever write of a registry's birth or of a rotation was the operator's last: the next process goes on from there, and
// the end is the same. Each process but the first takes over from one that was killed, and is killed itself, one write
// later, at the next registry.
func TestAnOperatorThatIsKilledAtAnyWriteLeavesWhatTheNextOneGoesOnFrom(t *testing.T) {
	g := newGate(t)
	g.start(t)
	points := 0
	for {
		n, at := points+1, ""
		ok := t.Run(fmt.Sprint("at write ", n), func(t *testing.T) { at = g.oneLife(t, n) })
		if !ok || at == "" {
			break
		}
		points++
	}
	// Ten children, the finalizer and two of status; then a key that is next, one that signs, and what status says of them.
	require.GreaterOrEqual(t, points, 16)
}

// oneLife makes an AppView and rotates its key once, with an operator that is killed at its n-th write and followed by
// another one. It says which write that was; empty: there are not so many.
func (g *gate) oneLife(t *testing.T, n int) (at string) {
	e := controltest.New(t)
	e.Kubelet()
	seen := e.WatchSecrets(nil)
	g.killAt(e.Namespace, n)
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"}
	e.Create(av)
	until := func(what string, done func(*v1alpha1.AppView) bool) {
		e.Until(what, func() bool {
			if g.gone() {
				require.NotEmpty(t, g.spare(), "the operator has ended by itself")
				g.start(t)
			}
			now := &v1alpha1.AppView{}
			e.Get("registry", now)
			return done(now)
		})
	}
	ready := func(av *v1alpha1.AppView) bool {
		return av.Status.ObservedGeneration == av.Generation && meta.IsStatusConditionTrue(av.Status.Conditions, v1alpha1.ConditionReady)
	}
	until("the AppView is Ready", ready)
	controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
	rotated := func(av *v1alpha1.AppView) bool {
		keys := av.Status.Keys.Signing
		return ready(av) && keys.LastRequest == "1" && keys.Next != nil && len(keys.Retired) == 1 && keys.Retired[0].Until != nil
	}
	until("the key is rotated", rotated)
	at = g.spare()
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "over")
	until("the operator is at work, and nothing has changed", func(av *v1alpha1.AppView) bool {
		return rotated(av) && av.Status.LastHandledReconcileAt == "over"
	})

	seen.RotatedOnce("registry")
	require.Equal(t, []string{
		"ConfigMap registry-runtime", "Deployment registry", "PersistentVolumeClaim registry-data",
		"Secret registry-did", "Secret registry-oauth", "Secret registry-sealing", "Secret registry-signing", "Secret registry-signing-next",
		"Service registry", "ServiceAccount registry",
	}, children(e))
	return at
}

// children are what the operator has made in the namespace.
func children(e *controltest.Env) (out []string) {
	e.Helper()
	for kind, list := range map[string]client.ObjectList{
		"ConfigMap": &corev1.ConfigMapList{}, "Deployment": &appsv1.DeploymentList{}, "PersistentVolumeClaim": &corev1.PersistentVolumeClaimList{},
		"Secret": &corev1.SecretList{}, "Service": &corev1.ServiceList{}, "ServiceAccount": &corev1.ServiceAccountList{},
	} {
		require.NoError(e, e.Client.List(e.Context(), list, client.InNamespace(e.Namespace), client.HasLabels{v1alpha1.LabelManagedBy}))
		require.NoError(e, meta.EachListItem(list, func(o runtime.Object) error {
			out = append(out, kind+" "+o.(client.Object).GetName())
			return nil
		}))
	}
	slices.Sort(out)
	return out
}
