package appview_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

func TestWhyAServerDoesNotRunIsInTheCondition(t *testing.T) {
	t.Parallel()
	for waiting, want := range map[string]string{
		"ImagePullBackOff": "ImagePullFailed", "ErrImagePull": "ImagePullFailed", "CrashLoopBackOff": "CrashLooping",
	} {
		t.Run(waiting, func(t *testing.T) {
			t.Parallel()
			e := controltest.New(t)
			e.Operator()
			e.Create(appView("registry"))
			e.AppView("registry", "Available=False/Progressing")
			d := &appsv1.Deployment{}
			e.Get("registry", d)
			pod := e.Pod(d, waiting)

			av := e.AppView("registry", "Ready=False/"+want, "Available=False/"+want, "Reconciling=True")
			require.Contains(t, condition(av, "Available").Message, pod.Name)
			ev := e.Event("registry", want)
			require.Equal(t, corev1.EventTypeWarning, ev.Type)

			// It gets better by itself.
			require.NoError(t, e.Client.Delete(t.Context(), pod))
			e.AppView("registry", "Available=False/Progressing")
			e.Kubelet()
			e.AppView("registry", "Ready=True")
		})
	}
}

func TestReadyMeansThisGenerationAndNoOldPods(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	av := appView("registry")
	e.Create(av)
	e.AppView("registry", "Available=False/Progressing")
	bind(e)
	status(e, controltest.Run)
	e.AppView("registry", "Ready=True")

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Logging.Level = "debug" })
	e.AppView("registry", "Ready=False/RollingOut", "Reconciling=True/RollingOut", "Available=False/RollingOut")
	status(e, func(d *appsv1.Deployment) { // the new pod runs beside the old one
		controltest.Run(d)
		d.Status.Replicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas = 2, 2, 2
	})
	e.AppView("registry", "Ready=False/RollingOut")
	status(e, controltest.Run)
	e.AppView("registry", "Ready=True")

	status(e, func(d *appsv1.Deployment) {
		d.Status.AvailableReplicas, d.Status.ReadyReplicas = 0, 0
		d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
	})
	e.AppView("registry", "Ready=False/DeadlineExceeded", "Available=False/DeadlineExceeded", "Stalled=True/DeadlineExceeded", "Reconciling=")
	e.Event("registry", "DeadlineExceeded")

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Replicas = new(int32) })
	e.AppView("registry", "Available=False")
	status(e, func(d *appsv1.Deployment) { controltest.Run(d); d.Status.Conditions = nil })
	e.AppView("registry", "Ready=True", "Available=True/ScaledToZero")
}

// Many storage classes bind a claim when the first pod is scheduled, and with no replicas there is none.
func TestAnAppViewWithoutReplicasDoesNotWaitForItsVolume(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Create(appView("registry", func(s *v1alpha1.AppViewSpec) { s.Replicas = new(int32) }))
	e.AppView("registry", "Available=False/Progressing")
	status(e, controltest.Run)
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimPending", "Available=True/ScaledToZero")
}

// status sets the Deployment's status once its spec is the newest that the operator will write.
func status(e *controltest.Env, set func(*appsv1.Deployment)) {
	e.Helper()
	d := &appsv1.Deployment{}
	e.Eventually("set the Deployment's status", func() error {
		e.Get("registry", d)
		set(d)
		return e.Client.Status().Update(e.Context(), d)
	})
}

func bind(e *controltest.Env) {
	e.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", claim)
	claim.Status.Phase = corev1.ClaimBound
	require.NoError(e, e.Client.Status().Update(e.Context(), claim))
}
