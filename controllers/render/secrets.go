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
	s := secret(av, SigningSecretName(av.Name), nil)
	return s, Fill(s, set)
}

// Fill writes a key set into its Secret.
func Fill(s *corev1.Secret, set *keyset.Set) error {
	files, err := set.Files()
	if err != nil {
		return err
	}
	s.Data = files
	describe(s, set.Current)
	s.Annotations[v1alpha1.AnnotationKeySet] = set.Record()
	return nil
}

// StagedSecret holds the private half of the next signing key; created like [SigningSecret].
func StagedSecret(av *v1alpha1.AppView, key *keyset.Key) (*corev1.Secret, error) {
	files, err := (&keyset.Set{Current: key}).Files()
	if err != nil {
		return nil, err
	}
	s := secret(av, StagedSecretName(av.Name), files)
	describe(s, key)
	return s, nil
}

// OAuthSecret holds the OAuth client's keys; created like [SigningSecret].
func OAuthSecret(av *v1alpha1.AppView, set *keyset.OAuthSet) (*corev1.Secret, error) {
	s := secret(av, OAuthSecretName(av.Name), nil)
	return s, FillOAuth(s, set)
}

// FillOAuth writes the OAuth client's keys into their Secret.
func FillOAuth(s *corev1.Secret, set *keyset.OAuthSet) error {
	file, err := set.File()
	if err != nil {
		return err
	}
	s.Data = map[string][]byte{names.FileOAuthKey: file}
	describe(s, set.Current)
	s.Annotations[v1alpha1.AnnotationKeySet] = set.Record()
	return nil
}

// NamedSecrets are the names of the user's Secrets that av's spec needs read.
func NamedSecrets(av *v1alpha1.AppView) []string {
	var out []string
	if av.Spec.Keys.Signing.Source == v1alpha1.KeyCertManager {
		out = append(out, SigningSourceName(av.Name))
	}
	for _, ref := range []*v1alpha1.KeySecretReference{av.Spec.Keys.Signing.SecretRef, av.Spec.Keys.OAuthClient.SecretRef} {
		if ref != nil {
			out = append(out, string(ref.Name))
		}
	}
	if name := tlsSecret(av); name != "" {
		out = append(out, name)
	}
	if p := PullSecrets(av); p != nil {
		out = append(out, string(p.SourceSecretRef.Name))
	}
	if p := av.Spec.Database.PostgreSQL; p != nil {
		out = append(out, string(p.SecretRef.Name))
		if p.CASecretRef != nil {
			out = append(out, string(p.CASecretRef.Name))
		}
	}
	return out
}

func describe(s *corev1.Secret, key *keyset.Key) {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[v1alpha1.AnnotationKeyID] = key.Kid
	s.Annotations[v1alpha1.AnnotationKeyAlgorithm] = string(key.Algorithm)
}

// DIDSecret holds the key of the AppView's own DID; created like [SigningSecret].
func DIDSecret(av *v1alpha1.AppView, key *keyset.Key) (*corev1.Secret, error) {
	file, err := key.PrivatePEM()
	if err != nil {
		return nil, err
	}
	s := secret(av, DIDSecretName(av.Name), map[string][]byte{names.FileDIDKey: file})
	describe(s, key)
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
