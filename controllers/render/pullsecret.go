package render

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
)

// PullSecrets is what av's spec says about copies of a pull secret; nil: nothing.
func PullSecrets(av *v1alpha1.AppView) *v1alpha1.PullSecrets {
	if av.Spec.ClusterPull == nil {
		return nil
	}
	return av.Spec.ClusterPull.PullSecrets
}

// PullAccounts are the names of the service accounts that use the copies.
func PullAccounts(p *v1alpha1.PullSecrets) []v1alpha1.ObjectName {
	if p.ServiceAccounts == nil {
		return []v1alpha1.ObjectName{"default"}
	}
	return p.ServiceAccounts
}

// PullSecretCopy is a copy of av's pull secret for another namespace. It carries no hash of what is in it: metadata is
// seen by more people than data is.
func PullSecretCopy(av *v1alpha1.AppView, namespace, name string, config []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: LabelsElsewhere(av), Annotations: annotations(av, nil)},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: config},
	}
}
