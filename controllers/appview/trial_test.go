package appview_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/render"
)

// imageOf is what the Deployment runs.
func imageOf(e *controltest.Env) string {
	e.Helper()
	return deployment(e).Spec.Template.Spec.Containers[0].Image
}

// trials are the pods that try an image.
func trials(e *controltest.Env) []corev1.Pod {
	e.Helper()
	var pods corev1.PodList
	require.NoError(e, e.Client.List(e.Context(), &pods, client.InNamespace(e.Namespace), client.MatchingLabels(render.TrialSelector("registry"))))
	return pods.Items
}

// A server with SQLite is gone before the next one starts.
func TestAnImageThatCannotRunReplacesNoServer(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{controltest.Unpullable: "ImagePullFailed", controltest.NoServer: "CrashLooping"} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			e := controltest.New(t)
			var requests controltest.Counter
			e.Operator(controltest.Counted(&requests))
			e.Kubelet()
			av := appView("registry")
			e.Create(av)
			e.AppView("registry", "Ready=True")
			before := deployment(e).Generation

			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = image })
			got := e.AppView("registry", "Ready=False/"+want, "Available=False/"+want, "Reconciling=True")
			for _, says := range []string{image, "spec.image", "The server runs on with " + controltest.Image} {
				require.Contains(t, condition(got, "Available").Message, says)
			}
			require.Equal(t, controltest.Image, got.Status.Image)
			require.EqualValues(t, 1, got.Status.ReadyReplicas)
			require.Equal(t, before, deployment(e).Generation, "what runs is left alone")
			require.Equal(t, corev1.EventTypeWarning, e.Event("registry", want).Type)
			noHotLoop(t, &requests)
			require.Equal(t, 1, e.Told("registry", want))

			// All else goes on with the image that there is.
			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Logging.Level = "debug" })
			e.Until("another variable", func() bool { return variable(deployment(e), names.LogLevel) == "debug" })
			require.Equal(t, controltest.Image, imageOf(e))

			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "" })
			e.AppView("registry", "Ready=True")
			e.Until("nothing is tried any more", func() bool { return len(trials(e)) == 0 })
			noHotLoop(t, &requests)
		})
	}
}

func TestAnImageThatRunsIsTriedFirstAndRolledOut(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "pull"}}
		s.PodTemplate.NodeSelector = map[string]string{"disk": "fast"}
	}))
	w, err := e.Client.Watch(t.Context(), &corev1.PodList{}, client.InNamespace(e.Namespace), client.MatchingLabels(render.TrialSelector("registry")))
	require.NoError(t, err)
	defer w.Stop()
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "registry.test/atcr-appview:v1" })
	tried := (<-w.ResultChan()).Object.(*corev1.Pod)
	require.Equal(t, []string{"--version"}, tried.Spec.Containers[0].Args)
	require.Equal(t, "registry.test/atcr-appview:v1", tried.Spec.Containers[0].Image)
	require.Equal(t, []corev1.LocalObjectReference{{Name: "pull"}}, tried.Spec.ImagePullSecrets)
	require.Equal(t, map[string]string{"disk": "fast"}, tried.Spec.NodeSelector)
	require.Empty(t, tried.Spec.Volumes, "it sees no key and no data")
	require.False(t, *tried.Spec.AutomountServiceAccountToken)
	require.NotNil(t, tried.OwnerReferences)
	require.NotSubset(t, tried.Labels, render.Selector("registry"), "no client is sent to it")
	e.Until("the image is rolled out", func() bool { return imageOf(e) == "registry.test/atcr-appview:v1" })
	require.Equal(t, "v1", e.AppView("registry", "Ready=True").Status.Version)
	e.Until("the pod that tried it is gone", func() bool { return len(trials(e)) == 0 })
}

// A limit that takes no small pod, or a quota that takes no second one, must not keep an image from being rolled out.
func TestAnImageThatCannotBeTriedIsRolledOut(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	e.Create(&corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "large"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer, Min: corev1.ResourceList{corev1.ResourceMemory: controltest.Quantity("1Gi")},
	}}}})
	e.Eventually("the limit counts", func() error {
		pod := render.Trial(av, render.Resolve(av, render.Defaults{Image: "registry.test/x"}), "")
		if err := e.Client.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
			return fmt.Errorf("want it refused: %w", err)
		}
		return nil
	})
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "registry.test/atcr-appview:v1" })
	e.Until("the image is rolled out", func() bool { return imageOf(e) == "registry.test/atcr-appview:v1" })
	e.AppView("registry", "Ready=True")
}
