package render

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

// trialName is the name label of pods that try an image, so that they are no server's.
const trialName = "atcr-appview-trial"

// TrialSelector finds the pods that try images for the AppView called name.
func TrialSelector(name string) map[string]string {
	return map[string]string{labelName: trialName, labelInstance: name}
}

// IsTrial says whether a pod tries an image.
func IsTrial(p *corev1.Pod) bool { return p.Labels[labelName] == trialName }

// TrialName is the pod that tries an image.
func TrialName(name, image string) string { return name + "-trial-" + ConsumedHash([]byte(image))[:8] }

// Trial is a pod that pulls an image, if it can be where the server runs, and has it say whether it knows the schema of the
// database; 0: nobody has said which that is. It has no volumes and no secret but those to pull with, and the labels and
// annotations of the server's pods: policies and what injects containers go by them.
func Trial(av *v1alpha1.AppView, s Settings, node string) *corev1.Pod {
	template := podTemplate(av, s, "")
	maps.Copy(template.Labels, TrialSelector(av.Name))
	delete(template.Annotations, v1alpha1.AnnotationConsumedHash)
	spec := template.Spec
	spec.Volumes, spec.TopologySpreadConstraints = nil, nil
	spec.WithRestartPolicy(corev1.RestartPolicyNever).WithTerminationGracePeriodSeconds(1)
	c := corev1ac.Container().WithName(ServerContainer).WithImage(s.Image).
		WithArgs(names.CommandSchema, fmt.Sprintf("--%s=%d", names.FlagDatabaseHas, av.Status.Database.Schema)).
		WithEnv(corev1ac.EnvVar().WithName(names.TerminationLog).WithValue(names.PathTermination)).
		WithSecurityContext(spec.Containers[0].SecurityContext).
		WithResources(corev1ac.ResourceRequirements().
			WithRequests(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")}).
			WithLimits(corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")}))
	spec.Containers = []corev1ac.ContainerApplyConfiguration{*c}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: TrialName(av.Name, s.Image), Namespace: av.Namespace, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*same[metav1.OwnerReference](owner(av))},
		},
		Spec: *same[corev1.PodSpec](spec),
	}
	prefer(&pod.Spec, node)
	return pod
}

// prefer has a pod run on a node if it can.
func prefer(spec *corev1.PodSpec, node string) {
	if node == "" {
		return
	}
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	a := spec.Affinity.NodeAffinity
	a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution, corev1.PreferredSchedulingTerm{
		Weight: 100,
		Preference: corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{
			Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}}},
	})
}
