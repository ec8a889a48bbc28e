package appview

import (
	"context"
	"crypto/rand"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/render"
)

// secrets makes the signing and the sealing key, each once: the Secret's name is fixed and Create is the lock. A key
// that exists is read, never replaced.
func (r *Reconciler) secrets(ctx context.Context, sc *scope) error {
	signing, made, err := r.ensureSecret(ctx, sc, render.SigningSecretName(sc.appView.Name), sc.newSigningSecret)
	if err != nil {
		return err
	}
	set, err := keyset.Parse(signing.Data)
	if err != nil {
		sc.keysFailed(v1alpha1.ReasonKeyInvalid, fmt.Sprintf(
			"Secret %s: %v. Restore it, or delete it to have a new key made; clients then log in again", signing.Name, err))
		return nil
	}
	if want := sc.settings.Algorithm; string(set.Current.Algorithm) != string(want) {
		sc.keysFailed(v1alpha1.ReasonKeyMismatch, fmt.Sprintf(
			"Secret %s holds an %s key and spec.keys.signing.algorithm is %s: set it to %s, or delete the Secret to have a new key made; clients then log in again",
			signing.Name, set.Current.Algorithm, want, set.Current.Algorithm))
		return nil
	}
	r.reportKey(sc, signing.Name, set.Current, made)

	sealing, _, err := r.ensureSecret(ctx, sc, render.SealingSecretName(sc.appView.Name), sc.newSealingSecret)
	if err != nil {
		return err
	}
	if err := keyset.CheckSealing(sealing.Data[names.FileSealingKey]); err != nil {
		sc.keysFailed(v1alpha1.ReasonKeyInvalid, fmt.Sprintf(
			"Secret %s: %s: %v. Restore it, or delete it to have a new key made; users then log in again", sealing.Name, names.FileSealingKey, err))
		return nil
	}

	sc.consumed = render.ConsumedHash(signing.Data[names.FileSigningKey], signing.Data[names.FileSigningCert],
		signing.Data[names.FileJWKS], sealing.Data[names.FileSealingKey])
	sc.conditions.True(v1alpha1.ConditionKeysReady, v1alpha1.ReasonGenerated, "tokens are signed by key "+set.Current.Kid)
	return nil
}

func (sc *scope) keysFailed(reason, message string) {
	sc.stalled = true
	sc.conditions.False(v1alpha1.ConditionKeysReady, reason, message)
}

func (sc *scope) newSigningSecret() (*corev1.Secret, error) {
	key, err := keyset.Generate(rand.Reader, keyset.Algorithm(sc.settings.Algorithm), sc.settings.ServiceName, sc.now.Time)
	if err != nil {
		return nil, err
	}
	return render.SigningSecret(sc.appView, &keyset.Set{Current: key})
}

func (sc *scope) newSealingSecret() (*corev1.Secret, error) {
	key, err := keyset.GenerateSealing(rand.Reader)
	if err != nil {
		return nil, err
	}
	return render.SealingSecret(sc.appView, key), nil
}

// reportKey notes the key in status. A key that took the place of another is worth a warning: the tokens of the old one
// do not verify any more.
func (r *Reconciler) reportKey(sc *scope, secretName string, key *keyset.Key, made bool) {
	before := sc.status.Keys.Signing.Current
	switch {
	case made && before != nil && before.Kid != key.Kid:
		r.warn(sc.appView, "KeyReplaced", "Secret %s was gone: tokens are now signed by key %s, those of key %s do not verify any more", secretName, key.Kid, before.Kid)
	case made:
		r.note(sc.appView, "KeyGenerated", "made signing key %s in Secret %s", key.Kid, secretName)
	}
	sc.status.Keys.Signing.Current = &v1alpha1.KeyStatus{
		Kid: key.Kid, Algorithm: v1alpha1.KeyAlgorithm(key.Algorithm), SecretName: secretName,
	}
}

// ensureSecret reads the Secret, or makes it. Whoever comes second to Create takes what the first one made, so that no
// race, stale cache or second operator can make another key.
func (r *Reconciler) ensureSecret(ctx context.Context, sc *scope, name string, build func() (*corev1.Secret, error)) (s *corev1.Secret, made bool, err error) {
	s = &corev1.Secret{}
	err = r.client.Get(ctx, sc.key(name), s)
	if apierrors.IsNotFound(err) { // the cache has only Secrets with our label
		err = r.live.Get(ctx, sc.key(name), s)
	}
	if apierrors.IsNotFound(err) {
		if s, err = build(); err != nil {
			return nil, false, err
		}
		made = true
		if err = r.client.Create(ctx, s, apply.FieldOwner); apierrors.IsAlreadyExists(err) {
			s, made = &corev1.Secret{}, false
			err = r.live.Get(ctx, sc.key(name), s)
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading or making Secret %s: %w", name, err)
	}
	if !sc.owned(s) {
		sc.explained = true
		message := fmt.Sprintf("Secret %s exists and belongs to somebody else: rename the AppView or that Secret. To hand it over, label it %s=%s and %s=%s",
			name, v1alpha1.LabelManagedBy, v1alpha1.ManagedBy, v1alpha1.LabelAppView, sc.appView.Name)
		sc.conditions.False(v1alpha1.ConditionKeysReady, v1alpha1.ReasonSecretNotOwned, message)
		return nil, false, outcome.Stall(v1alpha1.ReasonSecretNotOwned, "%s", message)
	}
	if !s.DeletionTimestamp.IsZero() {
		return nil, false, outcome.Wait(v1alpha1.ReasonProgressing, predecessorRetry, "waiting until Secret %s, which is being deleted, is gone", name)
	}
	return s, made, r.adopt(ctx, sc.appView, s, "Secret")
}
