package appview

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/render"
)

// observe looks at what the cluster makes of the Deployment, whether or not it is as the spec asks now.
func (r *Reconciler) observe(ctx context.Context, sc *scope) error {
	d, err := r.running(ctx, sc)
	if err != nil {
		return err
	}
	sc.reportSwitch(r, d)
	if d == nil {
		sc.status.Replicas, sc.status.ReadyReplicas, sc.status.UpdatedReplicas = 0, 0, 0
		sc.status.Links = nil
		sc.conditions.False(v1alpha1.ConditionAvailable, v1alpha1.ReasonWaiting,
			"the server is started once the spec is accepted, and its keys, its database, its certificate and its default hold are there")
		if sc.settings.PostgreSQL() {
			return r.reportPostgres(ctx, sc, nil, nil)
		}
		return nil
	}
	if image := imageOf(d); image != "" {
		sc.status.Image, sc.status.Version = image, render.Version(image)
	}
	sc.status.Selector = labels.Set(render.Selector(sc.appView.Name)).String()
	sc.status.Replicas = d.Status.Replicas
	sc.status.ReadyReplicas = d.Status.ReadyReplicas
	sc.status.UpdatedReplicas = d.Status.UpdatedReplicas
	pods, err := podsOf(ctx, r.client, sc)
	if err != nil {
		return err
	}
	a := availability(d, pods)
	if sc.runtimeHash != "" {
		l, err := r.loading(ctx, sc, pods)
		if err != nil {
			return err
		}
		sc.tellLinks(l.told() || !l.running && a.ok)
		a = sc.newest(a, l.behind)
	}
	sc.stillHeld()
	if a = sc.heldBack(a); a.ok {
		sc.conditions.True(v1alpha1.ConditionAvailable, a.reason, a.message)
	} else {
		sc.conditions.False(v1alpha1.ConditionAvailable, a.reason, a.message)
		sc.stalled = sc.stalled || deploymentCondition(d, appsv1.DeploymentProgressing).Reason == deadlineExceeded
	}
	switch {
	case sc.settings.PostgreSQL():
		if err := r.reportPostgres(ctx, sc, d, pods); err != nil {
			return err
		}
	case !sc.otherDatabase:
		r.space(ctx, sc, pods)
	}
	sc.reportLastWords(pods)
	return nil
}

// stillHeld says that an image which failed is still why the Deployment stays as it is, when nobody looked at it this time.
func (sc *scope) stillHeld() {
	if f := sc.status.FailedImage; sc.held.reason == "" && f != nil && f.Image == sc.settings.Image {
		sc.held = available{reason: f.Reason, message: f.Message}
	}
}

// running is the AppView's Deployment, as the API server or else the cache has it; nil: there is none.
func (r *Reconciler) running(ctx context.Context, sc *scope) (*appsv1.Deployment, error) {
	d := sc.deployment
	if d == nil {
		d = &appsv1.Deployment{}
		if err := r.client.Get(ctx, sc.key(sc.appView.Name), d); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("reading Deployment %s: %w", sc.appView.Name, err)
		}
	}
	if d.UID == "" || !sc.owned(d) {
		return nil, nil
	}
	return d, nil
}

const deadlineExceeded = "ProgressDeadlineExceeded"

type available struct {
	ok      bool
	reason  string
	message string
}

// availability reads a Deployment strictly: it must have seen its own generation, and every replica must run the
// current template, with none of an older one left. availableReplicas alone would count old pods.
func availability(d *appsv1.Deployment, pods []corev1.Pod) available {
	want, s := int32(1), d.Status
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	seen := s.ObservedGeneration >= d.Generation
	switch {
	case seen && want == 0 && s.Replicas == 0:
		return available{true, v1alpha1.ReasonScaledToZero, "spec.replicas is 0: nothing runs"}
	case seen && s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want:
		return available{true, v1alpha1.ReasonMinimumReplicasAvailable, fmt.Sprintf("%d of %d replicas are available", want, want)}
	}
	if a, found := podTrouble(pods); found {
		return a
	}
	if c := deploymentCondition(d, appsv1.DeploymentReplicaFailure); seen && c.Status == corev1.ConditionTrue {
		return available{reason: v1alpha1.ReasonPodsRefused, message: "the cluster refuses to create the pod: " + c.Message}
	}
	if seen && deploymentCondition(d, appsv1.DeploymentProgressing).Reason == deadlineExceeded {
		return available{reason: v1alpha1.ReasonDeadlineExceeded, message: fmt.Sprintf(
			"the pods of Deployment %s do not become ready: kubectl describe pod and kubectl logs of those with label %s say why", d.Name, labelHint(d))}
	}
	if s.Replicas > s.UpdatedReplicas || !seen && s.Replicas > 0 {
		return available{reason: v1alpha1.ReasonRollingOut, message: "pods of an older template are being replaced"}
	}
	return available{reason: v1alpha1.ReasonProgressing, message: fmt.Sprintf("%d of %d replicas are available", s.AvailableReplicas, want)}
}

func labelHint(d *appsv1.Deployment) string { return v1alpha1.LabelAppView + "=" + d.Name }

func deploymentCondition(d *appsv1.Deployment, kind appsv1.DeploymentConditionType) appsv1.DeploymentCondition {
	for _, c := range d.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return appsv1.DeploymentCondition{}
}

// podTrouble finds the first pod, newest first, that cannot run, and says why in words that name the remedy. Messages of
// registries and of the server itself stay where they are: only reasons, exit codes and schema versions are repeated.
func podTrouble(pods []corev1.Pod) (available, bool) {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range pods {
		if !p.DeletionTimestamp.IsZero() {
			continue
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if a, found := containerTrouble(p.Name, c); found {
				return a, true
			}
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
				return available{reason: v1alpha1.ReasonUnschedulable, message: fmt.Sprintf("no node takes pod %s: %s", p.Name, c.Message)}, true
			}
		}
	}
	return available{}, false
}

// crashesInARow is from how many restarts on a container that is not ready counts as crashing while it runs.
const crashesInARow = 2

func containerTrouble(pod string, c corev1.ContainerStatus) (available, bool) {
	code := ""
	if t := c.LastTerminationState.Terminated; t != nil {
		code = fmt.Sprintf(", exit code %d", t.ExitCode)
	}
	said := ""
	if word, ok := lastWord(c); ok {
		if said, _ = explain(word); said != "" {
			said += "; "
		}
	}
	crashing := func(why string) available {
		return available{reason: v1alpha1.ReasonCrashLooping, message: fmt.Sprintf(
			"the server in pod %s does not stay up (%s%s): %skubectl logs %s --previous says why", pod, why, code, said, pod)}
	}
	if c.State.Waiting == nil {
		// Between two crashes it runs for a moment; the condition does not follow it back and forth.
		return crashing("CrashLoopBackOff"), !c.Ready && code != "" && c.RestartCount >= crashesInARow
	}
	switch why := c.State.Waiting.Reason; why {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError":
		return available{reason: v1alpha1.ReasonImagePullFailed, message: fmt.Sprintf(
			"image %s of pod %s cannot be pulled (%s): check spec.image and spec.imagePullSecrets; kubectl describe pod %s has the registry's answer", c.Image, pod, why, pod)}, true
	case "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return crashing(why), true
	}
	return available{}, false
}
