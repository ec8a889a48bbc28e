package apply_test

import (
	"context"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/apply"
)

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

// lagging is a client whose cache still has an object as it was.
type lagging struct {
	client.Client
	old *appsv1.Deployment
}

func (l lagging) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if d, ok := o.(*appsv1.Deployment); ok && l.old != nil {
		l.old.DeepCopyInto(d)
		return nil
	}
	return l.Client.Get(ctx, key, o, opts...)
}

func deployment(namespace, image string) *appsv1ac.DeploymentApplyConfiguration {
	labels := map[string]string{"app": "x"}
	return appsv1ac.Deployment("x", namespace).WithSpec(appsv1ac.DeploymentSpec().
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(corev1ac.PodTemplateSpec().WithLabels(labels).
			WithSpec(corev1ac.PodSpec().WithContainers(corev1ac.Container().WithName("x").WithImage(image)))))
}

func anybodys(string, metav1.Object) error { return nil }

// A status of the generation before must not pass for that of the one just applied: old pods would look ready.
func TestWhatWasAppliedIsSeenAsTheAPIServerHasIt(t *testing.T) {
	e := controltest.New(t)
	first, err := apply.New(e.Client, e.Client, prometheus.NewRegistry())
	require.NoError(t, err)
	old := &appsv1.Deployment{}
	require.NoError(t, apply.Apply(t.Context(), first, deployment(e.Namespace, "a"), old, anybodys))
	require.EqualValues(t, 1, old.Generation)

	later, err := apply.New(lagging{e.Client, old}, e.Client, prometheus.NewRegistry())
	require.NoError(t, err)
	live := &appsv1.Deployment{}
	require.NoError(t, apply.Apply(t.Context(), later, deployment(e.Namespace, "b"), live, anybodys))
	require.EqualValues(t, 2, live.Generation)
	require.Equal(t, "b", live.Spec.Template.Spec.Containers[0].Image)
	require.Empty(t, live.ManagedFields)
}
