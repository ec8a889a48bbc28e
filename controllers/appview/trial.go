package appview

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

const (
	// trialAgain is how soon a trial is looked at again. Its watch mostly comes first.
	trialAgain = 5 * time.Second
	// trialMost is how long a trial may wait for a node or a slow registry; then the server is replaced without.
	trialMost = 5 * time.Minute
)

// tryImage says which image the server may run. A server with SQLite is gone before the next one starts, so an image that
// nobody can pull would end it: another pod pulls a new image first, and what runs is only replaced when that has worked.
func (r *Reconciler) tryImage(ctx context.Context, sc *scope, live *appsv1.Deployment) (string, error) {
	wanted, runs := sc.settings.Image, imageOf(live)
	needed := !sc.settings.PostgreSQL && sc.settings.Replicas > 0 && live.Status.ReadyReplicas > 0 && runs != "" && runs != wanted
	pod, err := r.trial(ctx, sc, needed)
	if err != nil || !needed || pod == nil {
		return wanted, err
	}
	sc.again(trialAgain)
	if len(pod.Status.ContainerStatuses) > 0 {
		if end := pod.Status.ContainerStatuses[0].State.Terminated; end != nil && end.ExitCode == 0 {
			return wanted, nil
		} else if end != nil {
			if wait := end.FinishedAt.Add(trialMost).Sub(sc.now.Time); wait <= 0 {
				return runs, r.deletePod(ctx, pod) // and once more
			}
			sc.held = available{reason: v1alpha1.ReasonCrashLooping, message: fmt.Sprintf(
				"image %s ends with exit code %d when it is to say its version, so it is no server: check spec.image; kubectl logs %s says why. The server runs on with %s",
				wanted, end.ExitCode, pod.Name, runs)}
			return runs, nil
		}
	}
	trouble, found := podTrouble([]corev1.Pod{*pod})
	switch {
	case found && trouble.reason != v1alpha1.ReasonUnschedulable:
		sc.held = available{reason: trouble.reason, message: trouble.message + ". The server runs on with " + runs}
	case sc.now.Sub(pod.CreationTimestamp.Time) >= trialMost:
		return wanted, nil
	default:
		sc.held = available{reason: v1alpha1.ReasonRollingOut, message: fmt.Sprintf("pod %s tries image %s before the server that runs is replaced", pod.Name, wanted)}
	}
	return runs, nil
}

// trial is the pod that tries the image of the spec, and nil when the cluster does not take one: a quota may be in the way
// of a second pod. Those of other images go, and all when none is needed.
func (r *Reconciler) trial(ctx context.Context, sc *scope, needed bool) (*corev1.Pod, error) {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.InNamespace(sc.appView.Namespace), client.MatchingLabels(render.TrialSelector(sc.appView.Name))); err != nil {
		return nil, fmt.Errorf("listing pods that try an image: %w", err)
	}
	var found *corev1.Pod
	for i := range pods.Items {
		p := &pods.Items[i]
		switch {
		case needed && p.Name == render.TrialName(sc.appView.Name, sc.settings.Image):
			found = p
		case p.DeletionTimestamp.IsZero():
			if err := r.deletePod(ctx, p); err != nil {
				return nil, err
			}
		}
	}
	if found != nil || !needed {
		return found, nil
	}
	node, err := r.nodeOf(ctx, sc)
	if err != nil {
		return nil, err
	}
	pod := render.Trial(sc.appView, sc.settings, node)
	switch err := r.client.Create(ctx, pod, apply.FieldOwner); {
	case apierrors.IsAlreadyExists(err): // the cache has not seen it
		err = r.live.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return pod, client.IgnoreNotFound(err)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("making pod %s: %w", pod.Name, err)
	}
	return pod, nil
}

// nodeOf is the node that the server runs on, where its volume is; empty: none.
func (r *Reconciler) nodeOf(ctx context.Context, sc *scope) (string, error) {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.InNamespace(sc.appView.Namespace), client.MatchingLabels(render.Selector(sc.appView.Name))); err != nil {
		return "", fmt.Errorf("listing pods: %w", err)
	}
	for i := range pods.Items {
		if runs(&pods.Items[i]) {
			return pods.Items[i].Spec.NodeName, nil
		}
	}
	return "", nil
}

func (r *Reconciler) deletePod(ctx context.Context, p *corev1.Pod) error {
	uid := p.UID
	if err := r.client.Delete(ctx, p, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting pod %s: %w", p.Name, err)
	}
	return nil
}

// imageOf is the image of a Deployment's server; empty: there is none.
func imageOf(d *appsv1.Deployment) string {
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name == "appview" {
			return c.Image
		}
	}
	return ""
}
