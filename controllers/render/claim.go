package render

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
)

// Claim is the volume claim of the SQLite database. It has no owner reference: data outlives the AppView unless
// spec.deletionPolicy.data is Delete.
func Claim(av *v1alpha1.AppView, s Settings) *corev1ac.PersistentVolumeClaimApplyConfiguration {
	return claim(av, ClaimName(av.Name), s.AccessMode, s.ClaimSize, av.Spec.Database.SQLite.StorageClassName)
}

func claim(av *v1alpha1.AppView, name string, mode corev1.PersistentVolumeAccessMode, size resource.Quantity,
	class v1alpha1.ObjectName) *corev1ac.PersistentVolumeClaimApplyConfiguration {
	spec := corev1ac.PersistentVolumeClaimSpec().
		WithAccessModes(mode).
		WithResources(corev1ac.VolumeResourceRequirements().
			WithRequests(corev1.ResourceList{corev1.ResourceStorage: size}))
	if class != "" {
		spec.WithStorageClassName(string(class))
	}
	return corev1ac.PersistentVolumeClaim(name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithSpec(spec)
}
