package manager

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
)

// maxShared bounds how many values of a part are kept to be shared: AppViews differ in few ways, and each is compared.
const maxShared = 16

// shared are values of a part of objects that many of them have alike, whoever they belong to.
type shared[T any] struct {
	kept []T
	next int // takes the place of the oldest
}

// one is the one value that says the same as v.
func (s *shared[T]) one(v T) T {
	for _, k := range s.kept {
		if reflect.DeepEqual(k, v) {
			return k
		}
	}
	if len(s.kept) < maxShared {
		s.kept = append(s.kept, v)
		return v
	}
	s.kept[s.next] = v
	s.next = (s.next + 1) % maxShared
	return v
}

// parts are those of an AppView's objects that do not say which AppView it is.
type parts struct {
	services    shared[[]corev1.ServicePort]
	storage     shared[corev1.VolumeResourceRequirements]
	podSecurity shared[*corev1.PodSecurityContext]
	security    shared[*corev1.SecurityContext]
	probes      shared[*corev1.Probe]
	mounts      shared[[]corev1.VolumeMount]
	ports       shared[[]corev1.ContainerPort]
	items       shared[[]corev1.KeyToPath]
}

func (p *parts) service(s *corev1.ServiceSpec) { s.Ports = p.services.one(tight(s.Ports)) }

func (p *parts) claim(s *corev1.PersistentVolumeClaimSpec) { s.Resources = p.storage.one(s.Resources) }

func (p *parts) pod(s *corev1.PodSpec) {
	s.SecurityContext = p.podSecurity.one(s.SecurityContext)
	for i := range s.Containers {
		c := &s.Containers[i]
		c.SecurityContext = p.security.one(c.SecurityContext)
		c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = p.probes.one(c.StartupProbe), p.probes.one(c.ReadinessProbe), p.probes.one(c.LivenessProbe)
		c.VolumeMounts, c.Ports = p.mounts.one(tight(c.VolumeMounts)), p.ports.one(tight(c.Ports))
	}
	for i := range s.Volumes {
		switch v := &s.Volumes[i]; {
		case v.Secret != nil:
			v.Secret.Items = p.items.one(tight(v.Secret.Items))
		case v.ConfigMap != nil:
			v.ConfigMap.Items = p.items.one(tight(v.ConfigMap.Items))
		}
	}
}
