package appview

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/render"
)

// oauthClient makes the OAuth client's key, and changes it when that is due. The server reads it at start.
func (r *Reconciler) oauthClient(ctx context.Context, sc *scope) error {
	spec, policy := sc.appView.Spec.Keys.OAuthClient, sc.settings.OAuthRotation
	provided := r.provided(ctx, sc, spec.Source, spec.SecretRef, "spec.keys.oauthClient.secretRef")
	if provided.err != nil {
		return provided.err
	}
	if k := provided.key; k != nil && k.Algorithm != keyset.ES256 {
		provided.key = nil
		sc.keysFailed(false, v1alpha1.ReasonKeyInvalid, "Secret %s: an OAuth client's key must be EC P-256", provided.name)
	}
	name, request := render.OAuthSecretName(sc.appView.Name), sc.request(v1alpha1.AnnotationRotateOAuth)
	coming := func() (*keyset.Key, error) {
		if provided.key != nil {
			return provided.key, nil
		}
		return keyset.Generate(rand.Reader, keyset.ES256, sc.settings.ServiceName, sc.now.Time)
	}
	if provided.wanted && provided.key == nil {
		if s, err := r.ownSecret(ctx, sc, name); err != nil || s == nil {
			sc.keysUnfit = true // there is nothing to begin with
			return err
		}
	}
	s, err := r.ensureKey(ctx, sc, name, "users log in again", func() (*corev1.Secret, error) {
		key, err := coming()
		if err != nil {
			return nil, err
		}
		return render.OAuthSecret(sc.appView, &keyset.OAuthSet{Current: key, Since: sc.now.Time, Request: request})
	})
	if err != nil {
		return err
	}
	set, err := keyset.ParseOAuth(s.Data[names.FileOAuthKey], s.Annotations[v1alpha1.AnnotationKeySet], s.CreationTimestamp.Time)
	if err != nil {
		sc.keysFailed(true, v1alpha1.ReasonKeyInvalid,
			"Secret %s: %s: %v. Restore it, or delete it to have a new key made; users then log in again", s.Name, names.FileOAuthKey, err)
		return nil
	}
	source := provided.key
	if provided.wanted && source == nil {
		source = set.Current // what is provided cannot be used: the key that is there stays
	}
	plan := keyset.DecideOAuth(set, source, request, policy, sc.now.Time)
	if action := plan.Action; action != keyset.Nothing {
		var key *keyset.Key
		if action == keyset.Stage || action == keyset.Revoke {
			if key, err = coming(); err != nil {
				return err
			}
		}
		before := set.Current.Kid
		set = keyset.CarryOAuth(set, action, key, request, policy, sc.now.Time)
		changed := s.DeepCopy()
		if err := render.FillOAuth(changed, set); err != nil {
			return err
		}
		if err := r.client.Patch(ctx, changed, client.MergeFromWithOptions(s, client.MergeFromWithOptimisticLock{}), apply.FieldOwner); err != nil {
			return fmt.Errorf("changing Secret %s: %w", name, err)
		}
		s = changed
		switch action {
		case keyset.Stage:
			r.note(sc.appView, "OAuthKeyRotated", "sessions begin with OAuth client key %s now; those of key %s go on", set.Current.Kid, before)
		case keyset.Revoke:
			r.warn(sc.appView, "OAuthKeyRevoked", "OAuth client key %s took the place of every earlier one, as %s=%s asked; users log in again",
				set.Current.Kid, v1alpha1.AnnotationRotateOAuth, request)
		case keyset.Purge:
			r.warn(sc.appView, "EarlierOAuthKeysRevoked", "every OAuth client key before %s is gone, as %s=%s asked; %s itself goes when its source has another",
				before, v1alpha1.AnnotationRotateOAuth, request, before)
		case keyset.Mark:
			r.warn(sc.appView, "OAuthKeyNotRotated", "%s=%s: the key is a provided one; change it where it comes from", v1alpha1.AnnotationRotateOAuth, request)
		}
		if plan = keyset.DecideOAuth(set, source, request, policy, sc.now.Time); plan.Action != keyset.Nothing {
			sc.again(time.Second)
		}
	}
	sc.again(plan.After)
	if plan.Pending {
		sc.keysAwaited(v1alpha1.ReasonRevocationPending,
			"%s=%s waits until Secret %s has another key than %s: put one there. If key %s is already the new one, set the annotation to another value",
			v1alpha1.AnnotationRotateOAuth, request, provided.name, set.Current.Kid, set.Current.Kid)
	}
	sc.startFiles = append(sc.startFiles, s.Data[names.FileOAuthKey])
	sc.status.Keys.OAuthClient = v1alpha1.OAuthKeyStatus{Current: keyStatus(set.Current.Public(), name), LastRequest: set.Request}
	for _, k := range set.Retired {
		sc.status.Keys.OAuthClient.Retired = append(sc.status.Keys.OAuthClient.Retired, retiredStatus(k.Kid, k.Until))
	}
	return nil
}
