package appview

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/render"
)

// expiringSoon is how long before its end a certificate is worth a word; of a short one, the last quarter of its life.
const expiringSoon = 7 * 24 * time.Hour

// soon is when the end of a certificate becomes worth a word.
func soon(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-min(expiringSoon, c.NotAfter.Sub(c.NotBefore)/4))
}

// maxActions bounds how many writes one reconcile makes for a key; the next goes on.
const maxActions = 8

// signing brings the signing keys one write after the other to where [keyset.Decide] wants them. Each state in between
// can be gone on from, by this operator or another.
func (r *Reconciler) signing(ctx context.Context, sc *scope) error {
	if err := r.recallServiceName(ctx, sc); err != nil {
		return err
	}
	provided := r.signingSource(ctx, sc)
	if provided.err != nil {
		return provided.err
	}
	var held *heldKeys
	for range maxActions {
		var state *keyset.State
		var err error
		if state, held, err = r.keyState(ctx, sc, provided); movedOn(err) {
			break
		} else if err != nil {
			return err
		}
		if held == nil {
			return nil // explained
		}
		if state.Set == nil && provided.wanted && provided.key == nil {
			sc.keysUnfit = true // there is nothing to begin with
			return nil
		}
		plan := keyset.Decide(*state, sc.settings.Rotation, sc.now.Time)
		var behind []string
		if plan.Confirm {
			if behind, err = r.servers.behind(ctx, sc, state.Set); err != nil {
				return err
			}
		}
		if plan.Action == keyset.Nothing || len(behind) > 0 {
			sc.again(plan.After)
			sc.reportSigning(state, plan, provided, behind)
			return r.keepServiceName(ctx, sc, held.signing)
		}
		if err := r.carry(ctx, sc, state, held, plan.Action); movedOn(err) {
			break
		} else if errors.Is(err, errImmutable) {
			return nil
		} else if err != nil {
			return err
		}
	}
	// Somebody else was faster, or the cache has not seen what was written; a server that runs has its keys.
	sc.keysUnfit = sc.keysUnfit || held == nil || held.signing == nil
	sc.again(time.Second)
	return nil
}

// errImmutable says that a Secret was made so that it cannot change, which is explained.
var errImmutable = errors.New("the Secret is immutable")

// heldKeys are the Secrets behind a state; nil: not there.
type heldKeys struct{ signing, staged *corev1.Secret }

func (r *Reconciler) keyState(ctx context.Context, sc *scope, provided provided) (*keyset.State, *heldKeys, error) {
	state, held := &keyset.State{Source: provided.key, Request: sc.request(v1alpha1.AnnotationRotate)}, &heldKeys{}
	var err error
	if held.signing, err = r.ownSecret(ctx, sc, render.SigningSecretName(sc.appView.Name)); err != nil {
		return nil, nil, err
	}
	if held.staged, err = r.ownSecret(ctx, sc, render.StagedSecretName(sc.appView.Name)); err != nil {
		return nil, nil, err
	}
	if s := held.signing; s != nil {
		set, err := keyset.Parse(s.Data)
		if err != nil {
			sc.keysFailed(true, v1alpha1.ReasonKeyInvalid,
				"Secret %s: %v. Restore it, or delete it to have another key made; clients then log in again", s.Name, err)
			return nil, nil, nil
		}
		set.Recall(s.Annotations[v1alpha1.AnnotationKeySet], s.CreationTimestamp.Time)
		state.Set = set
		if provided.wanted && provided.key == nil {
			state.Source = set.Current // what is provided cannot be used: the key that signs stays
		}
	}
	if s := held.staged; s != nil {
		if set, err := keyset.Parse(s.Data); err == nil {
			state.Staged = set.Current
		} else {
			r.warn(sc.appView, v1alpha1.ReasonKeyInvalid, "Secret %s: %v. It is made again", s.Name, err)
			return state, held, r.delete(ctx, s)
		}
	}
	return state, held, nil
}

// carry makes one write.
func (r *Reconciler) carry(ctx context.Context, sc *scope, state *keyset.State, held *heldKeys, action keyset.Action) error {
	switch action {
	case keyset.Begin:
		return r.begin(ctx, sc, state)
	case keyset.Stage:
		_, _, err := r.ensureSecret(ctx, sc, render.StagedSecretName(sc.appView.Name), func() (*corev1.Secret, error) {
			key, err := sc.comingKey(state)
			if err != nil {
				return nil, err
			}
			return render.StagedSecret(sc.appView, key)
		})
		return err
	case keyset.Unstage:
		return r.delete(ctx, held.staged)
	}
	set := keyset.Carry(*state, sc.settings.Rotation, action, sc.now.Time)
	after := held.signing.DeepCopy()
	if err := render.Fill(after, set); err != nil {
		return err
	}
	if after.Annotations[v1alpha1.AnnotationServiceName] == "" {
		after.Annotations[v1alpha1.AnnotationServiceName] = sc.settings.ServiceName
	}
	// The version keeps a decision about one state from being carried out on another.
	err := r.client.Patch(ctx, after, client.MergeFromWithOptions(held.signing, client.MergeFromWithOptimisticLock{}), apply.FieldOwner)
	if immutable := held.signing.Immutable; apierrors.IsInvalid(err) && immutable != nil && *immutable {
		sc.keysFailed(false, v1alpha1.ReasonKeyInvalid,
			"Secret %s is immutable, so keys cannot change: delete it and create it again at once with the same data, labels and annotations, without immutable", after.Name)
		return errImmutable
	}
	if err != nil {
		return fmt.Errorf("%s of Secret %s: %w", strings.ToLower(string(action)), after.Name, err)
	}
	switch before := state.Set.Current.Kid; action {
	case keyset.Promote:
		r.metrics.rotations.WithLabelValues("rotated").Inc()
		r.note(sc.appView, "KeyRotated", "key %s signs now; tokens of key %s verify until they are over", set.Current.Kid, before)
	case keyset.Revoke:
		r.metrics.rotations.WithLabelValues("revoked").Inc()
		r.warn(sc.appView, "KeyRevoked", "key %s signs now; servers are told to refuse tokens of key %s and of every earlier one, as %s=%s asked",
			set.Current.Kid, before, v1alpha1.AnnotationRotate, state.Request)
	case keyset.Purge:
		r.warn(sc.appView, "EarlierKeysRevoked", "servers are told to refuse tokens of every key before %s, as %s=%s asked; key %s itself goes when its source has another",
			before, v1alpha1.AnnotationRotate, state.Request, before)
	case keyset.Settle:
		if len(state.Set.Revoked) > 0 {
			r.note(sc.appView, "RevocationComplete", "every server has loaded the keys without %s: their tokens do not verify any more", someOf(state.Set.Revoked))
		}
	case keyset.Mark:
		r.warn(sc.appView, "KeyNotRotated", "%s=%s: the key is a provided one; change it where it comes from", v1alpha1.AnnotationRotate, state.Request)
	}
	r.servers.poke(ctx, sc, after)
	return nil
}

// begin makes the first set. When there was one before, the key that its servers already know takes over.
func (r *Reconciler) begin(ctx context.Context, sc *scope, state *keyset.State) error {
	lost := sc.appView.Status.Keys.Signing.Current
	var set *keyset.Set
	s, made, err := r.ensureSecret(ctx, sc, render.SigningSecretName(sc.appView.Name), func() (_ *corev1.Secret, err error) {
		from := *state
		switch {
		case state.Source != nil:
		case lost != nil && state.Staged != nil:
			from.Fresh = state.Staged
		default:
			if from.Fresh, err = sc.comingKey(state); err != nil {
				return nil, err
			}
		}
		if lost != nil && state.Source != nil {
			from.Request = sc.status.Keys.Signing.LastRequest // what was not carried out stays asked for
		}
		set = keyset.Carry(from, sc.settings.Rotation, keyset.Begin, sc.now.Time)
		secret, err := render.SigningSecret(sc.appView, set)
		if err == nil {
			secret.Annotations[v1alpha1.AnnotationServiceName] = sc.settings.ServiceName
		}
		return secret, err
	})
	if err != nil || !made {
		return err
	}
	if lost != nil && lost.Kid != set.Current.Kid {
		r.warn(sc.appView, "KeyReplaced", "Secret %s was gone: tokens are now signed by key %s, those of key %s do not verify any more", s.Name, set.Current.Kid, lost.Kid)
		r.servers.poke(ctx, sc, s)
		return nil
	}
	r.note(sc.appView, "KeyGenerated", "made Secret %s with signing key %s", s.Name, set.Current.Kid)
	return nil
}

// maxRequest is how much of a request status can show.
const maxRequest = 253

// request is what an annotation asks for; of a longer one its beginning counts.
func (sc *scope) request(annotation string) string {
	asked := []rune(sc.appView.Annotations[annotation])
	return string(asked[:min(len(asked), maxRequest)])
}

// comingKey is the provided key, or a new one.
func (sc *scope) comingKey(state *keyset.State) (*keyset.Key, error) {
	if state.Source != nil {
		return state.Source, nil
	}
	return keyset.Generate(rand.Reader, sc.settings.Rotation.Algorithm, sc.settings.ServiceName, sc.now.Time)
}

// someOf lists names, not all when they are many.
func someOf(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// reportSigning says how the keys are. behind are the pods that a change waits for.
func (sc *scope) reportSigning(state *keyset.State, plan keyset.Plan, provided provided, behind []string) {
	set, name := state.Set, render.SigningSecretName(sc.appView.Name)
	st := v1alpha1.SigningKeyStatus{
		Current:          keyStatus(set.Current.Public(), name),
		LastRotationTime: &metav1.Time{Time: set.Since},
		LastRequest:      set.Request,
	}
	if set.Next != nil {
		st.Next = keyStatus(*set.Next, render.StagedSecretName(sc.appView.Name))
		if p := sc.settings.Rotation; p.Interval > 0 && !provided.wanted {
			st.NextRotationTime = &metav1.Time{Time: set.Since.Add(p.Interval)}
		}
	}
	for _, k := range []*v1alpha1.KeyStatus{st.Current, st.Next} {
		if k != nil && provided.key != nil && k.Kid == provided.key.Kid && !provided.end.IsZero() {
			k.NotAfter = &metav1.Time{Time: provided.end}
		}
	}
	for _, k := range set.Retired {
		st.Retired = append(st.Retired, retiredStatus(k.Kid, k.Until))
	}
	sc.status.Keys.Signing = st
	switch {
	case plan.Pending:
		sc.keysAwaited(v1alpha1.ReasonRevocationPending,
			"%s=%s waits until Secret %s has another key than %s: put one there. If key %s is already the new one, set the annotation to another value",
			v1alpha1.AnnotationRotate, state.Request, provided.name, set.Current.Kid, set.Current.Kid)
	case len(behind) > 0 && len(set.Revoked) > 0:
		sc.keysAwaited(v1alpha1.ReasonRevoking, "key %s was revoked, and not every server has loaded the keys without it: waiting for pods %s. A pod that is deleted comes back with them",
			someOf(set.Revoked), someOf(behind))
	case len(behind) > 0 && set.Overdue(sc.settings.Rotation, sc.now.Time):
		sc.keysAwaited(v1alpha1.ReasonServersBehind, "keys cannot change before every server has loaded the newest: waiting for pods %s. See their logs; a pod that is deleted comes back with them",
			someOf(behind))
	case plan.Waiting && len(set.Retired) >= keyset.MaxRetired:
		sc.keysFine(v1alpha1.ReasonRotating, "tokens are signed by key %s; the next rotation waits until tokens of %d earlier keys are over", set.Current.Kid, len(set.Retired))
	case plan.Waiting && set.Unsettled():
		sc.keysFine(v1alpha1.ReasonRotating, "tokens are signed by key %s; not every server has loaded it yet", set.Current.Kid)
	case plan.Waiting && set.Next != nil:
		sc.keysFine(v1alpha1.ReasonRotating, "tokens are signed by key %s; key %s signs once every server has loaded it", set.Current.Kid, set.Next.Kid)
	case provided.wanted && !provided.end.IsZero() && provided.key != nil && !sc.now.Time.Before(soon(provided.key.Certificate)):
		sc.keysFine(v1alpha1.ReasonExpiringSoon, "the certificate of key %s, from Secret %s, ends at %s: renew it",
			set.Current.Kid, provided.name, provided.end.UTC().Format(time.RFC3339))
	case provided.wanted:
		sc.keysFine(v1alpha1.ReasonProvided, "tokens are signed by key %s, from Secret %s", set.Current.Kid, provided.name)
	default:
		sc.keysFine(v1alpha1.ReasonGenerated, "tokens are signed by key %s", set.Current.Kid)
	}
}

func keyStatus(k keyset.Public, secret string) *v1alpha1.KeyStatus {
	return &v1alpha1.KeyStatus{Kid: k.Kid, Algorithm: v1alpha1.KeyAlgorithm(k.Algorithm), SecretName: secret}
}

func retiredStatus(kid string, until time.Time) v1alpha1.RetiredKeyStatus {
	out := v1alpha1.RetiredKeyStatus{Kid: kid}
	if !until.IsZero() {
		out.Until = &metav1.Time{Time: until.Truncate(time.Second)}
	}
	return out
}

// provided is a key that somebody else makes.
type provided struct {
	wanted bool        // the spec names one
	name   string      // of its Secret
	key    *keyset.Key // nil: it cannot be used, which is explained
	end    time.Time   // of its certificate; zero: never
	err    error       // of the API server
}

// provided reads the key that the spec names.
func (r *Reconciler) provided(ctx context.Context, sc *scope, source v1alpha1.KeySource, ref *v1alpha1.KeySecretReference, at string) provided {
	if source != v1alpha1.KeySecretRef || ref == nil {
		return provided{}
	}
	return r.keyOf(ctx, sc, ref, at)
}

// keyOf reads the key in a Secret.
func (r *Reconciler) keyOf(ctx context.Context, sc *scope, ref *v1alpha1.KeySecretReference, at string) provided {
	out := provided{wanted: true, name: string(ref.Name)}
	key := sc.key(out.name)
	s, again, err := r.userSecrets.Get(ctx, key)
	switch {
	case apierrors.IsNotFound(err):
		sc.again(again)
		sc.keysFailed(false, v1alpha1.ReasonSecretNotFound, "%s names Secret %s, which does not exist: create it", at, out.name)
		return out
	case err != nil:
		out.err = fmt.Errorf("reading Secret %s: %w", out.name, err)
		return out
	}
	keyEntry, certEntry := string(ref.KeyKey), string(ref.CertKey)
	if keyEntry == "" {
		keyEntry = corev1.TLSPrivateKeyKey
	}
	certPEM := s.Data[corev1.TLSCertKey]
	if certEntry != "" {
		certPEM = s.Data[certEntry]
	}
	unfit := func(reason, format string, args ...any) provided {
		sc.again(r.userSecrets.Unfit(key))
		sc.keysFailed(false, reason, format, args...)
		return out
	}
	switch {
	case len(s.Data[keyEntry]) == 0:
		return unfit(v1alpha1.ReasonSecretNotFound, "Secret %s has no entry %s: add it, or name another in %s.keyKey", out.name, keyEntry, at)
	case certEntry != "" && len(certPEM) == 0:
		return unfit(v1alpha1.ReasonSecretNotFound, "Secret %s has no entry %s: add it, or leave %s.certKey out", out.name, certEntry, at)
	}
	got, end, err := keyset.ParseProvided(s.Data[keyEntry], certPEM, sc.settings.ServiceName, sc.now.Time)
	out.end = end
	sc.expires(out.name, end)
	switch {
	case errors.Is(err, keyset.ErrExpired):
		return unfit(v1alpha1.ReasonExpired, "the certificate in Secret %s ended at %s: renew it", out.name, end.UTC().Format(time.RFC3339))
	case errors.Is(err, keyset.ErrMismatch):
		return unfit(v1alpha1.ReasonKeyMismatch, "Secret %s: the certificate is of another key than %s: put the pair that belongs together", out.name, keyEntry)
	case err != nil:
		return unfit(v1alpha1.ReasonKeyInvalid, "Secret %s, entry %s: %v. It must be EC P-256 or RSA of 2048 bits or more, in PEM", out.name, keyEntry, err)
	}
	out.key = got
	sc.again(again)
	if !end.IsZero() {
		for _, t := range []time.Time{soon(got.Certificate), end} {
			if wait := t.Sub(sc.now.Time); wait > 0 {
				sc.again(wait + time.Second)
			}
		}
	}
	return out
}
