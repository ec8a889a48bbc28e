package appview

import (
	"context"
	"crypto/rand"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/render"
)

// secrets brings the keys that the server needs to what they should be. While one of them cannot be used, what runs goes
// on with those that it has.
func (r *Reconciler) secrets(ctx context.Context, sc *scope) error {
	for _, step := range []func(context.Context, *scope) error{r.signing, r.oauthClient, r.did, r.sealing} {
		if err := step(ctx, sc); err != nil {
			return err
		}
	}
	if !sc.keysUnfit {
		// The server reloads the signing keys by itself; the others it reads at start.
		sc.consumed = render.ConsumedHash(sc.startFiles...)
	}
	if sc.keys.reason != "" {
		status := sc.conditions.False
		if sc.keys.ok {
			status = sc.conditions.True
		}
		status(v1alpha1.ConditionKeysReady, sc.keys.reason, sc.keys.message)
	}
	return nil
}

// keysReport is what condition KeysReady will say.
type keysReport struct {
	ok              bool
	reason, message string
}

// keysFailed says what is wrong with a key; the first word counts. unfit: the server cannot be started with it.
func (sc *scope) keysFailed(unfit bool, reason, format string, args ...any) {
	sc.stalled, sc.keysUnfit = true, sc.keysUnfit || unfit
	if sc.keys.ok || sc.keys.reason == "" {
		sc.keys = keysReport{false, reason, fmt.Sprintf(format, args...)}
	}
}

// keysAwaited says what a key waits for; the first word counts, but for that of a key that is fine.
func (sc *scope) keysAwaited(reason, format string, args ...any) {
	if sc.keys.ok || sc.keys.reason == "" {
		sc.keys = keysReport{false, reason, fmt.Sprintf(format, args...)}
	}
}

func (sc *scope) keysFine(reason, format string, args ...any) {
	if sc.keys.reason == "" {
		sc.keys = keysReport{true, reason, fmt.Sprintf(format, args...)}
	}
}

// did makes the key of the AppView's own DID, once: a did:web of its base URL, whose document the server serves. Holds
// that trust the DID take pull counts from it.
func (r *Reconciler) did(ctx context.Context, sc *scope) error {
	s, err := r.ensureKey(ctx, sc, render.DIDSecretName(sc.appView.Name), "holds read the new key in the AppView's DID document", func() (*corev1.Secret, error) {
		key, err := keyset.Generate(rand.Reader, keyset.ES256, sc.settings.ServiceName, sc.now.Time)
		if err != nil {
			return nil, err
		}
		return render.DIDSecret(sc.appView, key)
	})
	if err != nil {
		return err
	}
	if err := keyset.CheckP256(s.Data[names.FileDIDKey]); err != nil {
		sc.keysFailed(true, v1alpha1.ReasonKeyInvalid,
			"Secret %s: %s: %v. Restore it, or delete it to have a new key made", s.Name, names.FileDIDKey, err)
		return nil
	}
	sc.startFiles = append(sc.startFiles, s.Data[names.FileDIDKey])
	return nil
}

// sealing makes the key that seals stored sessions, once. It never changes: what it sealed could not be opened.
func (r *Reconciler) sealing(ctx context.Context, sc *scope) error {
	s, err := r.ensureKey(ctx, sc, render.SealingSecretName(sc.appView.Name), "users log in again", func() (*corev1.Secret, error) {
		key, err := keyset.GenerateSealing(rand.Reader)
		if err != nil {
			return nil, err
		}
		return render.SealingSecret(sc.appView, key), nil
	})
	if err != nil {
		return err
	}
	if err := keyset.CheckSealing(s.Data[names.FileSealingKey]); err != nil {
		sc.keysFailed(true, v1alpha1.ReasonKeyInvalid,
			"Secret %s: %s: %v. Restore it, or delete it to have a new key made; users then log in again", s.Name, names.FileSealingKey, err)
		return nil
	}
	sc.startFiles = append(sc.startFiles, s.Data[names.FileSealingKey])
	return nil
}

// ensureSecret reads the Secret, or makes it. Whoever comes second to Create takes what the first one made, so that no
// race, stale cache or second operator can make another key.
func (r *Reconciler) ensureSecret(ctx context.Context, sc *scope, name string, build func() (*corev1.Secret, error)) (s *corev1.Secret, made bool, err error) {
	if s, err = r.ownSecret(ctx, sc, name); err != nil || s != nil {
		return s, false, err
	}
	// The cache has only Secrets with our label, so there may be one of somebody else's.
	if s, err = build(); err != nil {
		return nil, false, err
	}
	made = true
	if err = r.client.Create(ctx, s, apply.FieldOwner); apierrors.IsAlreadyExists(err) {
		s, made = &corev1.Secret{}, false
		err = r.live.Get(ctx, sc.key(name), s)
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading or making Secret %s: %w", name, err)
	}
	return s, made, r.takeSecret(ctx, sc, s)
}

// ensureKey is [Reconciler.ensureSecret] for one that is made once. One that was there before and is gone is made again,
// and lost says what that means.
func (r *Reconciler) ensureKey(ctx context.Context, sc *scope, name, lost string, build func() (*corev1.Secret, error)) (*corev1.Secret, error) {
	s, made, err := r.ensureSecret(ctx, sc, name, build)
	if made && sc.begun() {
		r.warn(sc.appView, "KeyReplaced", "Secret %s was gone and is made again: %s", name, lost)
	}
	return s, err
}

// begun says whether the AppView has had a server, which has needed all that is made before it.
func (sc *scope) begun() bool { return sc.appView.Status.Selector != "" }

// ownSecret is the Secret as the cache has it; nil: it has none.
func (r *Reconciler) ownSecret(ctx context.Context, sc *scope, name string) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	if err := r.client.Get(ctx, sc.key(name), s); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	return s, r.takeSecret(ctx, sc, s)
}

// takeSecret says why a Secret must not be used, and takes over one that an earlier AppView left behind.
func (r *Reconciler) takeSecret(ctx context.Context, sc *scope, s *corev1.Secret) error {
	if !sc.owned(s) {
		return outcome.StallOf(v1alpha1.ConditionKeysReady, v1alpha1.ReasonSecretNotOwned,
			"Secret %s exists and belongs to somebody else: rename the AppView or that Secret. To hand it over, label it %s=%s and %s=%s",
			s.Name, v1alpha1.LabelManagedBy, v1alpha1.ManagedBy, v1alpha1.LabelAppView, sc.appView.Name)
	}
	if !s.DeletionTimestamp.IsZero() {
		return outcome.Wait(v1alpha1.ReasonProgressing, predecessorRetry, "waiting until Secret %s, which is being deleted, is gone", s.Name)
	}
	return r.adopt(ctx, sc.appView, s, "Secret")
}

// delete removes exactly the object that was read. That it is gone already is an error: the cache has not seen it.
func (r *Reconciler) delete(ctx context.Context, o *corev1.Secret) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	if err := r.client.Delete(ctx, o, client.Preconditions{UID: &uid, ResourceVersion: &version}); err != nil {
		return fmt.Errorf("deleting Secret %s: %w", o.GetName(), err)
	}
	return nil
}
