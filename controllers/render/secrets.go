package render

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
)

// SigningSecret holds the key set. It is created, never applied: Create is the lock that keeps a second key from being
// made.
func SigningSecret(av *v1alpha1.AppView, set *keyset.Set) (*corev1.Secret, error) {
	files, err := set.Files()
	if err != nil {
		return nil, err
	}
	s := secret(av, SigningSecretName(av.Name), files)
	s.Annotations[v1alpha1.AnnotationKeyID] = set.Current.Kid
	s.Annotations[v1alpha1.AnnotationKeyAlgorithm] = string(set.Current.Algorithm)
	return s, nil
}

// SealingSecret holds the key that seals stored sessions; created like [SigningSecret].
func SealingSecret(av *v1alpha1.AppView, key []byte) *corev1.Secret {
	return secret(av, SealingSecretName(av.Name), map[string][]byte{names.FileSealingKey: key})
}

func secret(av *v1alpha1.AppView, name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Namespace:   av.Namespace,
			Labels:      Labels(av),
			Annotations: annotations(av, nil),
		},
		Type: corev1.SecretTypeOpaque,
		Data: data,
	}
}
