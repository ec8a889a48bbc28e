package appview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

const (
	// trialMost is how long a trial may wait for a node or a slow registry; then the server is replaced without, unless the
	// image has failed before. One that failed is tried again as often.
	trialMost = 5 * time.Minute
	// trialAgain is how long after a pod that its node turned away, or that could not be made, another is made.
	trialAgain = time.Minute
)

// tryImage says whether the Deployment is to stay as it is. A server with SQLite is gone before the next one starts, so an
// image that nobody can pull, or that is older than the database, would end it: another pod pulls a new image first and has
// it say which schema it knows, and the server is only replaced, with all that has changed and once, when that has worked.
func (r *Reconciler) tryImage(ctx context.Context, sc *scope, live *appsv1.Deployment) (bool, error) {
	wanted := sc.settings.Image
	pods, err := r.trials(ctx, sc)
	if err != nil {
		return false, err
	}
	needed := sc.settings.SQLite() && sc.settings.Replicas > 0 && sc.owned(live) && appliedImage(live) != wanted &&
		(works(live) || slices.ContainsFunc(pods, func(p corev1.Pod) bool { return sc.tries(&p) }))
	var trial *corev1.Pod
	for i := range pods {
		switch p := &pods[i]; {
		case needed && sc.tries(p):
			trial = p
		case p.DeletionTimestamp.IsZero():
			if err := r.deletePod(ctx, p); err != nil {
				return false, err
			}
		}
	}
	if failed := sc.status.FailedImage; failed != nil && (!needed || failed.Image != wanted) {
		sc.status.FailedImage = nil
	}
	switch {
	case !needed:
		return false, nil
	case trial != nil:
		held, err := r.judge(ctx, sc, trial, live)
		if !held {
			sc.status.FailedImage = nil
		}
		return held, err
	}
	sc.hold(live, available{reason: v1alpha1.ReasonRollingOut, message: fmt.Sprintf("a pod tries image %s before the server is replaced", wanted)})
	return r.makeTrial(ctx, sc, live)
}

// works says whether the server of a Deployment runs, or has run as the Deployment is now: one that is evicted comes back.
func works(d *appsv1.Deployment) bool {
	return appliedImage(d) != "" && (d.Spec.Replicas == nil || *d.Spec.Replicas > 0) &&
		(d.Status.ReadyReplicas > 0 || deploymentCondition(d, appsv1.DeploymentProgressing).Reason == newReplicaSetAvailable)
}

// newReplicaSetAvailable is the reason of Progressing once all pods of a template were available. It stays when they are
// gone for a while, and goes with the next template.
const newReplicaSetAvailable = "NewReplicaSetAvailable"

// appliedImage is the image that the operator wrote last, which another writer may have put a mirror in front of; empty:
// there is no server.
func appliedImage(d *appsv1.Deployment) string {
	return cmp.Or(d.Annotations[v1alpha1.AnnotationImage], imageOf(d))
}

// trials are the pods that try images for the AppView.
func (r *Reconciler) trials(ctx context.Context, sc *scope) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.InNamespace(sc.appView.Namespace), client.MatchingLabels(render.TrialSelector(sc.appView.Name))); err != nil {
		return nil, fmt.Errorf("listing pods that try an image: %w", err)
	}
	return pods.Items, nil
}

// tries says whether p tries the image that the spec asks for.
func (sc *scope) tries(p *corev1.Pod) bool {
	return p.Name == render.TrialName(sc.appView.Name, sc.settings.Image)
}

// judge looks how far the pod is, and says whether the Deployment is to stay as it is.
func (r *Reconciler) judge(ctx context.Context, sc *scope, pod *corev1.Pod, live *appsv1.Deployment) (bool, error) {
	wanted, age := sc.settings.Image, sc.now.Sub(pod.CreationTimestamp.Time)
	trouble, found := podTrouble([]corev1.Pod{*pod})
	end := trialEnd(pod)
	switch {
	case end != nil && end.ExitCode == 0:
		return false, nil
	case turnedAway(pod):
		sc.hold(live, available{reason: v1alpha1.ReasonRollingOut, message: fmt.Sprintf("pod %s, which tries image %s, was turned away by its node: another is made", pod.Name, wanted)})
		return true, r.deleteAfter(ctx, sc, pod, trialAgain-age)
	case end != nil:
		why := available{reason: v1alpha1.ReasonCrashLooping, message: fmt.Sprintf(
			"image %s ends with exit code %d when it is to say which database it knows, so it is no server of this release: check spec.image; kubectl logs %s says why",
			wanted, end.ExitCode, pod.Name)}
		if word, ok := names.ParseTermination(end.Message); ok && word.Reason == names.EndedSchemaTooNew {
			sentence, reason := explain(word)
			why = available{reason: reason, message: fmt.Sprintf("image %s is too old: %s", wanted, sentence)}
		}
		sc.hold(live, why)
		return true, r.deleteAfter(ctx, sc, pod, trialMost-sc.now.Sub(end.FinishedAt.Time)) // and once more
	case found && trouble.reason != v1alpha1.ReasonUnschedulable:
		sc.hold(live, trouble)
		sc.again(trialMost) // the watch of pods mostly comes first
		return true, nil
	case age >= trialMost && pod.DeletionTimestamp.IsZero():
		return r.untried(ctx, sc, live, fmt.Sprintf("pod %s has found no node, or has not ended, in %s", pod.Name, trialMost)), nil
	}
	sc.hold(live, available{reason: v1alpha1.ReasonRollingOut, message: fmt.Sprintf("pod %s tries image %s before the server is replaced", pod.Name, wanted)})
	sc.again(max(trialMost-age, trialAgain))
	return true, nil
}

// trialEnd is how the server's container in a trial ended, beside others that were put there; nil: it has not.
func trialEnd(p *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == render.ServerContainer {
			return c.State.Terminated
		}
	}
	return nil
}

// turnedAway says that the node, and not the image, ended a pod: it was evicted, preempted, or not taken in.
func turnedAway(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodFailed && p.Status.Reason != ""
}

// hold says why the Deployment stays as it is. While an image that failed is tried once more, that is still why.
func (sc *scope) hold(live *appsv1.Deployment, why available) {
	if failed := sc.status.FailedImage; failed != nil && why.reason == v1alpha1.ReasonRollingOut {
		sc.held = available{reason: failed.Reason, message: failed.Message}
		return
	}
	why.message += ". Until then the Deployment stays as it is, with image " + imageOf(live) + ", and takes no other change"
	sc.held = why
	if why.reason != v1alpha1.ReasonRollingOut {
		sc.status.FailedImage = &v1alpha1.FailedImage{Image: sc.settings.Image, Reason: why.reason, Message: clipped(why.message)}
	}
}

// clipped is what status takes of a message.
func clipped(message string) string {
	const most = 2048 // characters
	if r := []rune(message); len(r) > most {
		return string(r[:most])
	}
	return message
}

// besides stands before the trouble of the server that runs while another image is tried.
const besides = ". What is there has trouble of its own: "

// heldBack is what Available says while the Deployment stays as it is.
func (sc *scope) heldBack(a available) available {
	failed := sc.held.reason != "" && sc.held.reason != v1alpha1.ReasonRollingOut
	switch {
	case sc.held.reason == "", !a.ok && !failed:
		return a
	case a.ok, a.reason == v1alpha1.ReasonProgressing:
		return sc.held
	}
	return available{reason: sc.held.reason, message: sc.held.message + besides + a.message}
}

// makeTrial makes the pod that tries the image, and says whether the Deployment is to stay as it is. A cluster may refuse a
// second pod, by a quota or a policy, which must keep no image from being rolled out but one that has failed.
func (r *Reconciler) makeTrial(ctx context.Context, sc *scope, live *appsv1.Deployment) (bool, error) {
	node, err := r.nodeOf(ctx, sc)
	if err != nil {
		return false, err
	}
	pod := render.Trial(sc.appView, sc.settings, node)
	switch err := r.client.Create(ctx, pod, apply.FieldOwner); {
	case refused(err):
		return r.untried(ctx, sc, live, fmt.Sprintf("the cluster refuses pod %s: %v", pod.Name, err)), nil
	case err == nil, apierrors.IsAlreadyExists(err): // the cache has not seen it
		sc.again(trialMost)
	default: // whatever keeps this pod from being made may keep the server's from it
		log.FromContext(ctx).Error(err, "making the pod that tries an image", "pod", pod.Name)
		sc.again(trialAgain)
	}
	return true, nil
}

// refused says whether the API server will not take a request however often it is made. What a policy answers may have any
// code of a client's error.
func refused(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500
	}
}

// untried says whether the Deployment is to stay as it is because an image that cannot be tried now has failed before. Any
// other is rolled out without a trial, which is told once: none is needed any more once it is.
func (r *Reconciler) untried(ctx context.Context, sc *scope, live *appsv1.Deployment, why string) bool {
	if sc.status.FailedImage != nil { // of this image: tryImage forgets others
		sc.hold(live, available{reason: v1alpha1.ReasonRollingOut})
		sc.held.message += ". It is not tried once more: " + why
		sc.again(trialMost)
		return true
	}
	log.FromContext(ctx).Info("an image is rolled out untried", "image", sc.settings.Image, "why", why)
	r.warn(sc.appView, "ImageNotTried", "image %s is rolled out untried: %s", sc.settings.Image, why)
	return false
}

// nodeOf is the node that the server runs on, where its volume is; empty: none.
func (r *Reconciler) nodeOf(ctx context.Context, sc *scope) (string, error) {
	pods, err := podsOf(ctx, r.client, sc)
	if err != nil {
		return "", err
	}
	for i := range pods {
		if runs(&pods[i]) {
			return pods[i].Spec.NodeName, nil
		}
	}
	return "", nil
}

// deleteAfter deletes a pod once wait is over.
func (r *Reconciler) deleteAfter(ctx context.Context, sc *scope, p *corev1.Pod, wait time.Duration) error {
	if wait > 0 {
		sc.again(wait)
		return nil
	}
	if !p.DeletionTimestamp.IsZero() {
		return nil // its event tells that it is gone
	}
	return r.deletePod(ctx, p)
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
		if c.Name == render.ServerContainer {
			return c.Image
		}
	}
	return ""
}
