package manager

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
)

// deployed is a Deployment as the API server sends it: every one has its own copy of everything.
func deployed(name string) *appsv1.Deployment {
	labels := func() map[string]string {
		return map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelAppView: "registry"}
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: labels(), Annotations: map[string]string{"a": name},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "operator.atcr.io/v1alpha1", Kind: "AppView", Name: "registry", UID: "1"}},
	}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels()}
	d.Spec.Template.Labels = labels()
	d.Spec.Template.Spec = corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "appview", Image: "i", LivenessProbe: &corev1.Probe{PeriodSeconds: 10}, ReadinessProbe: &corev1.Probe{PeriodSeconds: 5}, Env: []corev1.EnvVar{{Name: "N", Value: "v"}}, VolumeMounts: []corev1.VolumeMount{{Name: "keys", MountPath: "/keys"}},
		}},
		Volumes: []corev1.Volume{{Name: "keys", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: []corev1.KeyToPath{{Key: "k", Path: "p"}}}}}},
	}
	return d
}

func TestObjectsInTheCacheSayWhatTheySaidAndShareTheirLabels(t *testing.T) {
	l := newLean()
	kept := func(o client.Object) client.Object {
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "somebody"}})
		out, err := l.object(o)
		require.NoError(t, err)
		return out.(client.Object)
	}
	one, two := kept(deployed("one")).(*appsv1.Deployment), kept(deployed("two")).(*appsv1.Deployment)
	require.Equal(t, deployed("one"), one)
	require.Equal(t, deployed("two"), two)
	same := reflect.ValueOf(one.Labels).Pointer()
	for _, labels := range []map[string]string{two.Labels, two.Spec.Selector.MatchLabels, two.Spec.Template.Labels} {
		require.Equal(t, same, reflect.ValueOf(labels).Pointer())
	}
	a, b := &one.Spec.Template.Spec, &two.Spec.Template.Spec
	require.Same(t, a.Containers[0].LivenessProbe, b.Containers[0].LivenessProbe)
	require.Same(t, &a.Containers[0].VolumeMounts[0], &b.Containers[0].VolumeMounts[0])
	require.Same(t, &a.Volumes[0].Secret.Items[0], &b.Volumes[0].Secret.Items[0])
	other := deployed("other")
	other.Labels[v1alpha1.LabelAppView] = "other"
	require.NotEqual(t, same, reflect.ValueOf(kept(other).GetLabels()).Pointer())

	conditions := []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Ready", Message: "m"}}
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}, Status: v1alpha1.AppViewStatus{Conditions: conditions}}
	require.Equal(t, av.DeepCopy(), kept(av))
}

func TestOfAUsersClaimTheCacheHasWhetherThereIsAVolume(t *testing.T) {
	claim := func(labels map[string]string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: "1", ResourceVersion: "7", Labels: labels},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "v"},
			Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		}
	}
	l := newLean()
	ours := map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}
	got, err := l.claim(claim(ours))
	require.NoError(t, err)
	require.Equal(t, claim(ours), got)
	got, err = l.claim(claim(map[string]string{"team": "a"}))
	require.NoError(t, err)
	want := claim(nil)
	want.Spec = corev1.PersistentVolumeClaimSpec{}
	require.Equal(t, want, got)
}

func TestWhatIsSharedDoesNotGrowWithoutEnd(t *testing.T) {
	l := newLean()
	var args shared[[]string]
	for i := range maxSets + 100 {
		require.Equal(t, []string{fmt.Sprint(i)}, args.one([]string{fmt.Sprint(i)}))
		require.LessOrEqual(t, len(args.kept), maxShared)
		labels := map[string]string{"app": fmt.Sprint(i)}
		require.Equal(t, map[string]string{"app": fmt.Sprint(i)}, l.set(labels))
		require.LessOrEqual(t, len(l.sets), maxSets)
		require.LessOrEqual(t, len(l.words), maxWords)
	}
}
