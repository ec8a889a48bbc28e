package appview_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
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
			var requests controltest.Counter
			e, av := running(t, appView("registry"), controltest.Counted(&requests))
			before := deployment(e)

			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = image })
			held := []string{"Ready=False/" + want, "Available=False/" + want, "Reconciling=True"}
			got := e.AppView("registry", held...)
			for _, says := range []string{image, "spec.image", "stays as it is, with image " + controltest.Image} {
				require.Contains(t, condition(got, "Available").Message, says)
			}
			require.Equal(t, controltest.Image, got.Status.Image)
			require.Equal(t, &v1alpha1.FailedImage{Image: image, Reason: want, Message: condition(got, "Available").Message}, got.Status.FailedImage)
			require.EqualValues(t, 1, got.Status.ReadyReplicas)
			require.Equal(t, corev1.EventTypeWarning, e.Event("registry", want).Type)
			noHotLoop(t, &requests)
			require.Equal(t, 1, e.Told("registry", want))

			// A drain takes the server and the pod that tried the image from their node.
			status(e, func(d *appsv1.Deployment) {
				d.Status.ReadyReplicas, d.Status.AvailableReplicas, d.Status.Replicas, d.Status.UpdatedReplicas = 0, 0, 0, 0
			})
			for _, p := range trials(e) {
				require.NoError(t, client.IgnoreNotFound(e.Client.Delete(t.Context(), &p)))
			}
			e.Until("the server is gone, and the image was tried again", func() bool {
				all := trials(e)
				return e.AppView("registry", held...).Status.ReadyReplicas == 0 && len(all) == 1 && len(all[0].Status.ContainerStatuses) == 1
			})

			// Whatever else is asked for would replace the server, and waits.
			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Logging.Level = "debug" })
			e.AppView("registry", held...)
			require.Equal(t, before.Spec, deployment(e).Spec, "what was there comes back as it was")
			status(e, controltest.Run)
			e.AppView("registry", held...)

			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "" })
			e.Until("what waited is made up for", func() bool { return variable(deployment(e), names.LogLevel) == "debug" })
			require.Nil(t, e.AppView("registry", "Ready=True").Status.FailedImage)
			require.Equal(t, before.Generation+1, deployment(e).Generation)
			e.Until("nothing is tried any more", func() bool { return len(trials(e)) == 0 })
			noHotLoop(t, &requests)
		})
	}
}

// What is known of an image is said until it is known better.
func TestAnImageIsTriedOnceMoreWithoutAWordAboutIt(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = controltest.NoServer })
	e.AppView("registry", "Available=False/CrashLooping")
	w, err := e.Client.Watch(t.Context(), &v1alpha1.AppViewList{}, client.InNamespace(e.Namespace))
	require.NoError(t, err)
	defer w.Stop()
	ask := func(value string) {
		t.Helper()
		controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Annotations = map[string]string{v1alpha1.AnnotationReconcile: value} })
	}

	first := trials(e)[0]
	e.Eventually("the pod ended long ago", func() error {
		e.Get(first.Name, &first)
		first.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(time.Now().Add(-time.Hour))
		return e.Client.Status().Update(t.Context(), &first)
	})
	n := 0
	e.Until("another pod has tried it", func() bool {
		n++
		ask(fmt.Sprint("again ", n)) // until the operator has seen when the pod ended
		all := trials(e)
		return len(all) == 1 && all[0].UID != first.UID && len(all[0].Status.ContainerStatuses) == 1
	})
	ask("last")
	for {
		got := next[*v1alpha1.AppView](t, w)
		require.Equal(t, "CrashLooping", condition(got, "Available").Reason)
		require.Equal(t, "CrashLooping", condition(got, "Ready").Reason)
		if got.Status.LastHandledReconcileAt == "last" {
			break
		}
	}
	require.Equal(t, 1, e.Told("registry", "CrashLooping"))
}

// next is the object of the next event that w sees.
func next[T client.Object](t *testing.T, w watch.Interface) T {
	t.Helper()
	select {
	case ev, open := <-w.ResultChan():
		require.True(t, open, "the watch ended")
		o, ok := ev.Object.(T)
		require.True(t, ok, "%T %v", ev.Object, ev.Object)
		return o
	case <-time.After(time.Minute):
		require.FailNow(t, "nothing happens")
		panic("unreachable")
	}
}

func TestWhatElseFailsIsNoWordThatAnImageRuns(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	e.Create(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}) // somebody else's
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = controltest.NoServer })
	held := e.AppView("registry", "Accepted=True", "Available=False/CrashLooping")
	e.Event("registry", "CrashLooping")

	controltest.Update(e, av, func(av *v1alpha1.AppView) { byPolicy(&av.Spec) })
	got := e.AppView("registry", "Accepted=False/NotPermitted", "Available=False/CrashLooping")
	require.Equal(t, condition(held, "Available").Message, condition(got, "Available").Message)
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.PodTemplate.Metadata.Labels = map[string]string{"not a label": "x"} // the CRD cannot refuse it
	})
	e.AppView("registry", "Accepted=False/InvalidSpec", "Available=False/CrashLooping")
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.PodTemplate.Metadata.Labels, av.Spec.NetworkPolicy.Mode = nil, v1alpha1.Disabled
	})
	e.AppView("registry", "Accepted=True", "Available=False/CrashLooping")
	require.Equal(t, 1, e.Told("registry", "CrashLooping"))

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "" })
	e.AppView("registry", "Ready=True")
}

// An operator that is rolled back brings the image of its own release.
func TestAnImageOlderThanTheDatabaseTakesNoServersPlace(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, av := running(t, appView("registry"), servers.Asked())
	e.Serving(deployment(e), "10.1.6.1")
	servers.Answer("10.1.6.1", names.Ready{Status: names.StatusOK, Database: &names.DatabaseState{Bytes: 1, Free: 1 << 30, Schema: 8}})
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "ask")
	e.Until("the schema is known", func() bool { return e.AppView("registry", "Ready=True").Status.Database.Schema == 8 })
	before := deployment(e).Generation

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = controltest.Old })
	got := e.AppView("registry", "Ready=False/SchemaTooNew", "Available=False/SchemaTooNew", "DatabaseReady=True", "Reconciling=True")
	for _, says := range []string{controltest.Old, "schema 8", "knows 7", "restore a backup", "stays as it is, with image " + controltest.Image} {
		require.Contains(t, condition(got, "Available").Message, says)
	}
	require.Equal(t, "--database-has=8", trials(e)[0].Spec.Containers[0].Args[1])
	require.Equal(t, before, deployment(e).Generation, "the server that knows its database stays")
	require.Equal(t, corev1.EventTypeWarning, e.Event("registry", "SchemaTooNew").Type)
	require.Equal(t, 1, e.Told("registry", "SchemaTooNew"))

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "" })
	e.AppView("registry", "Ready=True", "Available=True")
	e.Until("the pod that tried it is gone", func() bool { return len(trials(e)) == 0 })
	require.Equal(t, before, deployment(e).Generation)
}

func TestAnImageThatRunsIsTriedFirstAndRolledOut(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "pull"}}
		s.PodTemplate.NodeSelector = map[string]string{"disk": "fast"}
		s.PodTemplate.Metadata.Labels = map[string]string{"team": "a", "app.kubernetes.io/name": "mine"}
		s.PodTemplate.Metadata.Annotations = map[string]string{"sidecar.istio.io/inject": "false"}
	}))
	before := deployment(e).Generation
	w, err := e.Client.Watch(t.Context(), &corev1.PodList{}, client.InNamespace(e.Namespace), client.MatchingLabels(render.TrialSelector("registry")))
	require.NoError(t, err)
	defer w.Stop()
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Image = "registry.test/atcr-appview:v1"
		av.Spec.Logging.Level = "debug"
	})
	tried := next[*corev1.Pod](t, w)
	require.Equal(t, []string{"schema", "--database-has=0"}, tried.Spec.Containers[0].Args)
	require.Equal(t, "registry.test/atcr-appview:v1", tried.Spec.Containers[0].Image)
	require.Equal(t, []corev1.LocalObjectReference{{Name: "pull"}}, tried.Spec.ImagePullSecrets)
	require.Equal(t, map[string]string{"disk": "fast"}, tried.Spec.NodeSelector)
	require.Empty(t, tried.Spec.Volumes, "it sees no key and no data")
	require.False(t, *tried.Spec.AutomountServiceAccountToken)
	require.NotNil(t, tried.OwnerReferences)
	require.NotSubset(t, tried.Labels, render.Selector("registry"), "no client is sent to it")
	require.Equal(t, "a", tried.Labels["team"])
	require.Equal(t, map[string]string{"sidecar.istio.io/inject": "false"}, tried.Annotations)
	e.Until("the image is rolled out", func() bool { return imageOf(e) == "registry.test/atcr-appview:v1" })
	require.Equal(t, "v1", e.AppView("registry", "Ready=True").Status.Version)
	require.Equal(t, before+1, deployment(e).Generation, "with all that was asked for, and once")
	require.Equal(t, "debug", variable(deployment(e), names.LogLevel))
	e.Until("the pod that tried it is gone", func() bool { return len(trials(e)) == 0 })
}

// The kubelet sorts containers by name, and those that others put there do not end.
func TestTheServersContainerIsTheOneThatIsTried(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = controltest.Slow })
	e.AppView("registry", "Available=False/RollingOut")
	e.Until("it is tried", func() bool { return len(trials(e)) == 1 })
	pod := trials(e)[0]
	report := func(change func(s *corev1.PodStatus)) {
		t.Helper()
		e.Eventually("the status of the pod", func() error {
			now := &corev1.Pod{}
			e.Get(pod.Name, now)
			change(&now.Status)
			return e.Client.Status().Update(t.Context(), now)
		})
	}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 143, FinishedAt: metav1.Now()}}

	// Its node is out of memory.
	report(func(s *corev1.PodStatus) {
		s.Phase, s.Reason = corev1.PodFailed, "Evicted"
		s.ContainerStatuses = []corev1.ContainerStatus{{Name: "appview", State: ended}}
	})
	e.Until("that is no word about the image", func() bool {
		return strings.Contains(condition(e.AppView("registry", "Available=False/RollingOut"), "Available").Message, "turned away by its node")
	})
	require.NoError(t, e.Client.Delete(t.Context(), &pod))
	e.Until("it is tried again", func() bool { all := trials(e); return len(all) == 1 && all[0].UID != pod.UID })

	report(func(s *corev1.PodStatus) {
		s.Phase = corev1.PodRunning
		s.ContainerStatuses = []corev1.ContainerStatus{
			{Name: "agent", State: ended},
			{Name: "appview", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}},
			{Name: "proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}},
		}
	})
	report(func(s *corev1.PodStatus) {
		s.ContainerStatuses[1].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Now()}}
	})
	e.Until("the image is rolled out", func() bool { return imageOf(e) == controltest.Slow })
	e.AppView("registry", "Ready=True")
}

func TestAPodThatItsNodeTurnedAwayIsMadeAgainAfterAMinute(t *testing.T) {
	t.Parallel()
	var clock atomic.Pointer[time.Time] // it stands still but for what the test does
	clock.Store(new(time.Now()))
	e, av := running(t, appView("registry"), func(_ *rest.Config, o *manager.Options) { o.Now = func() time.Time { return *clock.Load() } })
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = controltest.Slow })
	e.Until("it is tried", func() bool { return len(trials(e)) == 1 })
	pod := trials(e)[0]
	e.Eventually("its node has no memory left", func() error {
		e.Get(pod.Name, &pod)
		pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, "Evicted"
		return e.Client.Status().Update(t.Context(), &pod)
	})
	e.Until("that is said", func() bool {
		return strings.Contains(condition(e.AppView("registry", "Available=False/RollingOut"), "Available").Message, "turned away by its node")
	})
	look := func(age time.Duration, value string) {
		t.Helper()
		clock.Store(new(pod.CreationTimestamp.Add(age)))
		lookedAt(e, av, value)
	}
	look(59*time.Second, "early")
	require.Equal(t, pod.UID, trials(e)[0].UID, "a node that has no room mostly has none a moment later")
	look(time.Minute, "late")
	e.Until("another is made", func() bool { all := trials(e); return len(all) == 1 && all[0].UID != pod.UID })
	require.Equal(t, controltest.Image, imageOf(e))
}

// lookedAt has the operator look at the AppView; value is another each time.
func lookedAt(e *controltest.Env, av *v1alpha1.AppView, value string) {
	e.Helper()
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, value)
	e.Until("it is looked at", func() bool { return e.AppView("registry").Status.LastHandledReconcileAt == value })
}

// That nobody can ask it a second time makes it no better.
func TestAnImageThatFailedReplacesNoServerThoughItCannotBeTriedAgain(t *testing.T) {
	t.Parallel()
	for says, refuses := range map[string]bool{"has found no node": false, "refuses pod": true} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			var clock atomic.Pointer[time.Time] // it stands still but for what the test does
			clock.Store(new(time.Now()))
			denied := &controltest.Fault{Method: http.MethodPost, Path: "/pods", Status: http.StatusForbidden}
			denied.Off()
			e, av := running(t, appView("registry"), controltest.With(denied),
				func(_ *rest.Config, o *manager.Options) { o.Now = func() time.Time { return *clock.Load() } })
			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = controltest.Slow })
			e.Until("it is tried", func() bool { return len(trials(e)) == 1 })
			pod := trials(e)[0]
			first := pod.UID
			ended := metav1.NewTime(clock.Load().Truncate(time.Second))
			e.Eventually("it is too old", func() error {
				e.Get(pod.Name, &pod)
				pod.Status.Phase = corev1.PodFailed
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "appview", State: corev1.ContainerState{
					Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, FinishedAt: ended, Message: `{"reason":"SchemaTooNew","have":8,"known":7}`},
				}}}
				return e.Client.Status().Update(t.Context(), &pod)
			})
			e.AppView("registry", "Available=False/SchemaTooNew")

			if refuses {
				denied.On()
			}
			clock.Store(new(ended.Add(5 * time.Minute)))
			lookedAt(e, av, "once more")
			if !refuses {
				e.Until("another pod waits for a node", func() bool { all := trials(e); return len(all) == 1 && all[0].UID != first })
				clock.Store(new(trials(e)[0].CreationTimestamp.Add(5 * time.Minute)))
				lookedAt(e, av, "in vain")
			}
			e.Until("why it is not tried is said", func() bool {
				return strings.Contains(condition(e.AppView("registry", "Available=False/SchemaTooNew"), "Available").Message, says)
			})
			require.Equal(t, controltest.Image, imageOf(e), "the server that knows its database stays")
			require.Equal(t, 1, e.Told("registry", "SchemaTooNew"))
			require.Zero(t, e.Told("registry", "ImageNotTried"))
		})
	}
}

// A webhook puts a mirror in front of every image.
func TestAnImageThatAMirrorHasIsNotTriedForever(t *testing.T) {
	t.Parallel()
	var requests controltest.Counter
	e, av := running(t, appView("registry"), controltest.Counted(&requests), controltest.Mirrored("registry.test/", "mirror.test/"))
	require.Equal(t, "mirror.test/atcr-appview:v0", imageOf(e))
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "registry.test/atcr-appview:v1" })
	e.Until("the image is rolled out", func() bool { return imageOf(e) == "mirror.test/atcr-appview:v1" })
	e.AppView("registry", "Ready=True")
	e.Until("nothing is tried any more", func() bool { return len(trials(e)) == 0 })
	noHotLoop(t, &requests)
}

// A policy answers with any code of a client's error; none says anything about the server's own pods.
func TestAPolicyAgainstThePodThatTriesAnImageKeepsNoImageFromBeingRolledOut(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotAcceptable} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			denied := &controltest.Fault{Method: http.MethodPost, Path: "/pods", Status: code}
			e, av := running(t, appView("registry"), controltest.With(denied))
			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "registry.test/atcr-appview:v1" })
			e.Until("the image is rolled out", func() bool { return imageOf(e) == "registry.test/atcr-appview:v1" })
			e.AppView("registry", "Ready=True")
			require.Contains(t, e.Event("registry", "ImageNotTried").Note, "refuses pod")
			require.Equal(t, 1, e.Told("registry", "ImageNotTried"))
		})
	}
}

// What keeps the API server from making that pod may keep it from making the server's.
func TestAnErrorOfTheAPIServerReplacesNoServerAndKeepsUpNothingElse(t *testing.T) {
	t.Parallel()
	broken := &controltest.Fault{Method: http.MethodPost, Path: "/pods"}
	e, av := running(t, appView("registry"), controltest.With(broken))
	before := deployment(e).Spec
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Image = "registry.test/atcr-appview:v1"
		av.Spec.Exposure.Ingress = &v1alpha1.Ingress{Hosts: []v1alpha1.Hostname{"registry.example.com"}}
	})
	e.AppView("registry", "Available=False/RollingOut", "Ready=False/RollingOut")
	e.Eventually("a later step", func() error {
		return e.Client.Get(t.Context(), client.ObjectKeyFromObject(av), &networkingv1.Ingress{})
	})
	require.Equal(t, before, deployment(e).Spec)
	broken.Off()
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Annotations = map[string]string{v1alpha1.AnnotationReconcile: "now"} })
	e.Until("the image is rolled out", func() bool { return imageOf(e) == "registry.test/atcr-appview:v1" })
	e.AppView("registry", "Ready=True")
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
