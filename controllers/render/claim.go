package render

import (
	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
)

// Claim is the volume claim of the SQLite database. It has no owner reference: data outlives the AppView unless
// spec.deletionPolicy.data is Delete.
func Claim(av *v1alpha1.AppView, s Settings) *corev1ac.PersistentVolumeClaimApplyConfiguration {
	spec := corev1ac.PersistentVolumeClaimSpec().
		WithAccessModes(s.AccessMode).
		WithResources(corev1ac.VolumeResourceRequirements().
			WithRequests(corev1.ResourceList{corev1.ResourceStorage: s.ClaimSize}))
	if class := av.Spec.Database.SQLite.StorageClassName; class != "" {
		spec.WithStorageClassName(string(class))
	}
	return corev1ac.PersistentVolumeClaim(ClaimName(av.Name), av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithSpec(spec)
}
