package render

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
)

// extraVolume is before the names of volumes that spec.podTemplate adds, so that they are not those of ours.
const extraVolume = "extra-"

// placed says where the pods run, as spec.podTemplate and spec.availability ask.
func placed(spec *corev1ac.PodSpecApplyConfiguration, av *v1alpha1.AppView, s Settings) {
	t := av.Spec.PodTemplate
	if len(t.NodeSelector) > 0 {
		spec.WithNodeSelector(t.NodeSelector)
	}
	if t.PriorityClassName != "" {
		spec.WithPriorityClassName(string(t.PriorityClassName))
	}
	for _, tol := range t.Tolerations {
		spec.WithTolerations(toleration(tol))
	}
	if t.Affinity != nil {
		spec.WithAffinity(same[corev1ac.AffinityApplyConfiguration](t.Affinity))
	}
	spec.WithTopologySpreadConstraints(spread(av, s)...)
}

// same is a value of the API as its apply configuration: both have the same JSON.
func same[T any](v any) *T {
	out := new(T)
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, out)
	}
	if err != nil {
		panic("what came as JSON is none: " + err.Error())
	}
	return out
}

func extraVolumes(av *v1alpha1.AppView) []*corev1ac.VolumeApplyConfiguration {
	var out []*corev1ac.VolumeApplyConfiguration
	for _, v := range av.Spec.PodTemplate.Volumes {
		volume := corev1ac.Volume().WithName(extraVolume + v.Name)
		if v.Secret != nil {
			volume.WithSecret(corev1ac.SecretVolumeSource().WithSecretName(string(v.Secret.Name)).WithDefaultMode(0o440))
		} else {
			volume.WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(string(v.ConfigMap.Name)).WithDefaultMode(0o444))
		}
		out = append(out, volume)
	}
	return out
}

func toleration(t corev1.Toleration) *corev1ac.TolerationApplyConfiguration {
	out := corev1ac.Toleration()
	if t.Key != "" {
		out.WithKey(t.Key)
	}
	if t.Operator != "" {
		out.WithOperator(t.Operator)
	}
	if t.Value != "" {
		out.WithValue(t.Value)
	}
	if t.Effect != "" {
		out.WithEffect(t.Effect)
	}
	if t.TolerationSeconds != nil {
		out.WithTolerationSeconds(*t.TolerationSeconds)
	}
	return out
}
