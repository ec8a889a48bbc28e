package appview

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/render"
)

// finalize carries out spec.deletionPolicy and lets the AppView go. What has an owner reference is left to the garbage
// collector. Nothing here talks to anything but the API server.
func (r *Reconciler) finalize(ctx context.Context, av *v1alpha1.AppView) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(av, v1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	s := render.Resolve(av, r.options.Defaults)
	if !s.RetainKeys {
		if left, err := r.deleteCertificates(ctx, av); err != nil || left {
			return ctrl.Result{RequeueAfter: certificateGone}, err
		}
	}
	return ctrl.Result{}, r.carryOut(ctx, av, s)
}

// certificateGone is how soon a Certificate that is being deleted is looked for again.
const certificateGone = time.Second

// deleteCertificates deletes the Certificates behind Secrets that are to go, and says whether one is still there:
// cert-manager would issue a Secret again at once.
func (r *Reconciler) deleteCertificates(ctx context.Context, av *v1alpha1.AppView) (left bool, err error) {
	for _, name := range []string{render.SigningSourceName(av.Name), render.ServerCertificateName(av.Name)} {
		o := optional.Certificate.New()
		err := r.options.Kinds.Get(ctx, optional.Certificate, client.ObjectKey{Namespace: av.Namespace, Name: name}, o)
		switch {
		case errors.Is(err, optional.ErrUnsure):
			return false, fmt.Errorf("reading Certificate %s: the kind %w", name, err)
		case apierrors.IsNotFound(err), errors.Is(err, optional.ErrNotServed), errors.Is(err, optional.ErrForbidden):
			continue
		case err != nil:
			return false, fmt.Errorf("reading Certificate %s: %w", name, err)
		case !render.Owned(av, o):
			continue
		}
		left = true
		if !o.GetDeletionTimestamp().IsZero() {
			continue
		}
		uid := o.GetUID()
		if err := r.client.Delete(ctx, o, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("deleting Certificate %s: %w", name, err)
		}
	}
	return left, nil
}

// carryOut leaves or deletes what the policy says, and lets the AppView go.
func (r *Reconciler) carryOut(ctx context.Context, av *v1alpha1.AppView, s render.Settings) error {
	// A claim that existingClaim names is the user's, whoever made it.
	retainData := s.RetainData || s.ClaimName == render.ClaimName(av.Name) && !s.OwnClaim
	ownBackups := existingBackupClaim(av) != render.BackupClaimName(av.Name)
	for _, left := range []struct {
		object client.Object
		kind   string
		name   string
		retain bool
	}{
		{&corev1.PersistentVolumeClaim{}, "PersistentVolumeClaim", render.ClaimName(av.Name), retainData},
		{&corev1.PersistentVolumeClaim{}, "PersistentVolumeClaim", render.BackupClaimName(av.Name), s.RetainData || !ownBackups},
		{&corev1.Secret{}, "Secret", render.SigningSecretName(av.Name), s.RetainKeys},
		{&corev1.Secret{}, "Secret", render.StagedSecretName(av.Name), s.RetainKeys},
		{&corev1.Secret{}, "Secret", render.SigningSourceName(av.Name), s.RetainKeys},
		{&corev1.Secret{}, "Secret", render.ServerCertificateName(av.Name), s.RetainKeys},
		{&corev1.Secret{}, "Secret", render.OAuthSecretName(av.Name), s.RetainKeys},
		{&corev1.Secret{}, "Secret", render.DIDSecretName(av.Name), s.RetainKeys},
		{&corev1.Secret{}, "Secret", render.SealingSecretName(av.Name), s.RetainKeys},
	} {
		if err := r.leave(ctx, av, left.object, left.kind, left.name, left.retain); err != nil {
			return err
		}
	}
	if r.sees(render.LocalRegistryNamespace) {
		key := client.ObjectKey{Namespace: render.LocalRegistryNamespace, Name: render.LocalRegistryName}
		if err := r.withdrawElsewhere(ctx, av, "ConfigMap", key, &corev1.ConfigMap{}); err != nil {
			return err
		}
	}
	if len(r.options.Namespaces) == 0 {
		if err := r.takeBack(ctx, av); err != nil {
			return err
		}
	}
	before := av.DeepCopy()
	controllerutil.RemoveFinalizer(av, v1alpha1.Finalizer)
	err := r.client.Patch(ctx, av, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), apply.FieldOwner)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("removing the finalizer: %w", err)
	}
	return nil
}

// existingBackupClaim is the claim of the user's that spec.database.sqlite.backup names; empty: none.
func existingBackupClaim(av *v1alpha1.AppView) string {
	if b := av.Spec.Database.SQLite.Backup; b != nil {
		return string(b.Claim.ExistingClaim)
	}
	return ""
}

// leave marks an object as left behind, or deletes it.
func (r *Reconciler) leave(ctx context.Context, av *v1alpha1.AppView, o client.Object, kind, name string, retain bool) error {
	err := r.client.Get(ctx, client.ObjectKey{Namespace: av.Namespace, Name: name}, o)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading %s %s: %w", kind, name, err)
	case !render.Owned(av, o):
		return nil
	case o.GetLabels()[v1alpha1.LabelRetained] == "true" && o.GetAnnotations()[v1alpha1.AnnotationRetainedFrom] != string(av.UID):
		return nil // left behind by an earlier AppView, and never taken over by this one
	case !retain:
		uid := o.GetUID()
		if err := r.client.Delete(ctx, o, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting %s %s: %w", kind, name, err)
		}
		r.note(av, "Deleted", "deleted %s %s, as spec.deletionPolicy asks", kind, name)
		return nil
	case o.GetLabels()[v1alpha1.LabelRetained] == "true":
		return nil
	}
	before := o.DeepCopyObject().(client.Object)
	setLabel(o, v1alpha1.LabelRetained, "true")
	setAnnotation(o, v1alpha1.AnnotationRetainedFrom, string(av.UID))
	if err := r.client.Patch(ctx, o, client.MergeFrom(before), apply.FieldOwner); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("marking %s %s as retained: %w", kind, name, err)
	}
	r.note(av, "Retained", "left %s %s behind, as spec.deletionPolicy asks: an AppView of the same name takes it over", kind, name)
	return nil
}

// adopt takes over what an earlier AppView of the same name left behind.
func (r *Reconciler) adopt(ctx context.Context, av *v1alpha1.AppView, o client.Object, kind string) error {
	if o.GetLabels()[v1alpha1.LabelRetained] == "" {
		return nil
	}
	before := o.DeepCopyObject().(client.Object)
	setLabel(o, v1alpha1.LabelRetained, "")
	setAnnotation(o, v1alpha1.AnnotationRetainedFrom, "")
	if err := r.client.Patch(ctx, o, client.MergeFrom(before), apply.FieldOwner); err != nil {
		return fmt.Errorf("adopting %s %s: %w", kind, o.GetName(), err)
	}
	r.note(av, "Adopted", "took over %s %s, which an earlier AppView of this name left behind", kind, o.GetName())
	return nil
}

// setLabel sets or, with an empty value, removes a label.
func setLabel(o client.Object, key, value string) { o.SetLabels(with(o.GetLabels(), key, value)) }

// setAnnotation sets or, with an empty value, removes an annotation.
func setAnnotation(o client.Object, key, value string) {
	o.SetAnnotations(with(o.GetAnnotations(), key, value))
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	if m[key] = value; value == "" {
		delete(m, key)
	}
	return m
}
