package controltest

import (
	"context"
	"sync"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/render"
)

// Unpullable is an image that [Env.Kubelet] cannot pull, NoServer one that ends with an error, and Slow one that no node has
// begun to pull. Old knows schema 7 of the database and no later one.
const (
	Unpullable = "registry.test/nowhere:v1"
	NoServer   = "registry.test/no-server:v1"
	Slow       = "registry.test/slow:v1"
	Old        = "registry.test/old:v1"
)

// Kubelet stands in for the controller-manager and the kubelet in the test's namespace from now on: claims are bound,
// Deployments become available as soon as they change, and pods that try an image end.
func (e *Env) Kubelet() {
	e.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	var wg sync.WaitGroup
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &corev1.PersistentVolumeClaimList{}, &corev1.PodList{}} {
		wg.Go(func() {
			for ctx.Err() == nil {
				e.attend(ctx, list)
			}
		})
	}
	e.Cleanup(func() { cancel(); wg.Wait() })
}

// attend does the cluster's part for what a watch shows, which begins with all that is there. It returns when the watch
// ends, as the API server lets one that falls behind, and when a write fails for another reason than that the object has
// moved on, which brings another event.
func (e *Env) attend(ctx context.Context, list client.ObjectList) {
	w, err := e.Client.Watch(ctx, list, client.InNamespace(e.Namespace))
	if err != nil {
		return
	}
	defer w.Stop()
	for ev := range w.ResultChan() {
		switch o := ev.Object.(type) {
		case *appsv1.Deployment:
			if o.Status.ObservedGeneration < o.Generation && o.DeletionTimestamp.IsZero() {
				Run(o)
				err = e.Client.Status().Update(ctx, o)
			}
		case *corev1.Pod:
			if render.IsTrial(o) && o.Status.Phase == corev1.PodPending && len(o.Status.ContainerStatuses) == 0 {
				try(o)
				err = e.Client.Status().Update(ctx, o)
			}
		case *corev1.PersistentVolumeClaim:
			if (o.Status.Phase == "" || o.Status.Phase == corev1.ClaimPending) && o.DeletionTimestamp.IsZero() {
				o.Status.Phase = corev1.ClaimBound
				err = e.Client.Status().Update(ctx, o)
			}
		}
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return
		}
	}
}

// Run makes d look as if its pods ran.
func Run(d *appsv1.Deployment) {
	n := int32(1)
	if d.Spec.Replicas != nil {
		n = *d.Spec.Replicas
	}
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}},
	}
}

// try makes p look as if its image was pulled and has run, or not.
func try(p *corev1.Pod) {
	c := corev1.ContainerStatus{Name: p.Spec.Containers[0].Name, Image: p.Spec.Containers[0].Image}
	switch c.Image {
	case Old:
		p.Status.Phase = corev1.PodFailed
		c.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, FinishedAt: metav1.Now(),
			Message: `{"reason":"SchemaTooNew","have":8,"known":7}`}
	case Slow:
		return
	case Unpullable:
		c.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}
	case NoServer:
		p.Status.Phase = corev1.PodFailed
		c.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 127, FinishedAt: metav1.Now()}
	default:
		p.Status.Phase = corev1.PodSucceeded
		c.State.Terminated = &corev1.ContainerStateTerminated{FinishedAt: metav1.Now()}
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{c}
}

// Pod makes a pod of the AppView whose container waits with that reason.
func (e *Env) Pod(appView *appsv1.Deployment, waiting string) *corev1.Pod {
	e.Helper()
	p := &corev1.Pod{}
	p.Namespace, p.GenerateName = e.Namespace, appView.Name+"-"
	p.Labels = appView.Spec.Template.Labels
	p.Spec = corev1.PodSpec{Containers: []corev1.Container{{Name: "appview", Image: appView.Spec.Template.Spec.Containers[0].Image}}}
	require.NoError(e, e.Client.Create(e.Context(), p))
	p.Status.Phase = corev1.PodPending
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "appview", Image: p.Spec.Containers[0].Image,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: waiting}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}},
	}}
	require.NoError(e, e.Client.Status().Update(e.Context(), p))
	return p
}

// Quantity parses q, for specs in tests.
func Quantity(q string) resource.Quantity { return resource.MustParse(q) }

// CollectGarbage deletes what owner owned, as the controller-manager would.
func (e *Env) CollectGarbage(owner client.Object) {
	e.Helper()
	for _, list := range []client.ObjectList{
		&appsv1.DeploymentList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{}, &corev1.ConfigMapList{},
	} {
		require.NoError(e, e.Client.List(e.Context(), list, client.InNamespace(e.Namespace)))
		require.NoError(e, meta.EachListItem(list, func(item runtime.Object) error {
			o := item.(client.Object)
			if ref := metav1.GetControllerOf(o); ref == nil || ref.UID != owner.GetUID() {
				return nil
			}
			return e.Client.Delete(e.Context(), o)
		}))
	}
}
