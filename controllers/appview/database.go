package appview

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// database makes the claim for the SQLite file, or looks at what the spec names: a claim, or a PostgreSQL's Secrets. With
// type None there is nothing to make.
func (r *Reconciler) database(ctx context.Context, sc *scope) error {
	s := sc.settings
	switch {
	case s.PostgreSQL():
		return r.postgres(ctx, sc)
	case !s.SQLite():
		return r.noDatabase(ctx, sc)
	}
	sc.status.Database = v1alpha1.DatabaseStatus{Type: v1alpha1.DatabaseSQLite, ClaimName: s.ClaimName}
	if was := sc.appView.Status.Database; was.ClaimName == s.ClaimName {
		sc.status.Database.Bytes, sc.status.Database.Schema = was.Bytes, was.Schema
	}
	if was := sc.appView.Status.Database; s.Backup != nil && was.BackupClaimName == s.Backup.ClaimName {
		sc.status.Database.LastBackupTime = was.LastBackupTime
	}
	if err := r.backupClaim(ctx, sc); err != nil {
		return err
	}
	live := &corev1.PersistentVolumeClaim{}
	if !s.OwnClaim {
		switch err := r.client.Get(ctx, sc.key(s.ClaimName), live); {
		case apierrors.IsNotFound(err):
			// A server that runs is not replaced by one that could not start.
			sc.databaseFailed(v1alpha1.ReasonClaimNotFound,
				"spec.database.sqlite.existingClaim names PersistentVolumeClaim %s, which does not exist: create it, or leave existingClaim out to have one made", s.ClaimName)
			return nil
		case err != nil:
			return fmt.Errorf("reading PersistentVolumeClaim %s: %w", s.ClaimName, err)
		}
		sc.reportClaim(live)
		return nil
	}
	was, err := r.keepSize(ctx, sc, s.ClaimName, sc.appView.Spec.Database.SQLite.Size, &s.ClaimSize)
	if err != nil {
		return err
	}
	err = apply.Apply(ctx, r.applier, render.Claim(sc.appView, s), live, sc.mayWrite)
	stalled, isStalled := outcome.IsStalled(err)
	switch {
	case isStalled && stalled.Reason == v1alpha1.ReasonNotPermitted:
		sc.databaseUnfit = true
		return outcome.StallOf(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonClaimNotOwned, "%w", err)
	case isStalled, apierrors.IsForbidden(err):
		// Its storage class cannot make it larger, say. The server goes on with the claim as it is; without one it waits.
		sc.claimRefused(live, err)
		return nil
	case err != nil:
		return err
	}
	if !was && sc.begun() && sc.appView.Status.Database.ClaimName == s.ClaimName {
		r.warn(sc.appView, "ClaimReplaced", "PersistentVolumeClaim %s was gone and is made again: the database begins empty", s.ClaimName)
	}
	sc.reportClaim(live)
	return r.adopt(ctx, sc.appView, live, "PersistentVolumeClaim")
}

// keepSize says whether a claim is there, and of one that the spec gives no size leaves the size as it is: none can shrink.
func (r *Reconciler) keepSize(ctx context.Context, sc *scope, name string, asked *resource.Quantity, size *resource.Quantity) (there bool, err error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.client.Get(ctx, sc.key(name), claim); apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("reading PersistentVolumeClaim %s: %w", name, err)
	}
	if has := claim.Spec.Resources.Requests.Storage(); asked == nil && has.Cmp(*size) > 0 {
		*size = *has
	}
	return true, nil
}

// claimRefused says that the cluster does not take the claim as the spec wants it.
func (sc *scope) claimRefused(live *corev1.PersistentVolumeClaim, err error) {
	sc.stalled = true
	sc.again(refusedRetry)
	if live.UID == "" {
		sc.consumed = ""
	}
	sc.conditions.False(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonNotPermitted, fmt.Sprintf(
		"the cluster refuses PersistentVolumeClaim %s as spec.database.sqlite.size and storageClassName ask for it: %v", sc.settings.ClaimName, err))
}

func (sc *scope) reportClaim(live *corev1.PersistentVolumeClaim) {
	switch name := sc.settings.ClaimName; live.Status.Phase {
	case corev1.ClaimBound:
		sc.conditions.True(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonClaimBound, fmt.Sprintf("PersistentVolumeClaim %s is bound", name))
	case corev1.ClaimLost:
		sc.stalled = true
		sc.conditions.False(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonClaimLost, fmt.Sprintf(
			"PersistentVolumeClaim %s has lost its volume: restore the volume, or delete the claim to start with an empty database", name))
	default:
		if sc.settings.Replicas == 0 {
			sc.conditions.True(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonClaimPending, fmt.Sprintf(
				"PersistentVolumeClaim %s gets a volume when the first pod needs it; spec.replicas is 0", name))
			return
		}
		sc.conditions.False(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonClaimPending, fmt.Sprintf(
			"PersistentVolumeClaim %s waits for a volume; if that takes long, kubectl describe pvc %s says why", name, name))
	}
}
