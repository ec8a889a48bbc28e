package appview

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/render"
)

// noDatabase says what it means that the server's file goes with its pod.
func (r *Reconciler) noDatabase(ctx context.Context, sc *scope) error {
	was := sc.appView.Status.Database
	sc.status.Database = v1alpha1.DatabaseStatus{Type: v1alpha1.DatabaseNone}
	if was.Type == v1alpha1.DatabaseNone {
		sc.status.Database.Bytes, sc.status.Database.Schema = was.Bytes, was.Schema
	}
	left, err := r.leftClaim(ctx, sc)
	if err != nil {
		return err
	}
	sc.conditions.True(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonNotRequired,
		"spec.database.type is None: when the pod is replaced, clients log in again, uploads in progress begin anew, holds are not told "+
			"of what they have not taken yet, a handle that moved meanwhile is trusted at once, and records are read again"+left)
	return nil
}

// reportSwitch tells once that another database begins empty. While d, the server that runs, uses the one before, that is
// what the status says; nil: none runs.
func (sc *scope) reportSwitch(r *Reconciler, d *appsv1.Deployment) {
	from, to := sc.appView.Status.Database, sc.status.Database.Type
	if d != nil {
		if used := render.DatabaseOf(d); used != "" && used != sc.settings.Database {
			sc.otherDatabase, sc.status.Database = true, from
			return
		}
	}
	if from.Type == "" || from.Type == to {
		return
	}
	now := map[v1alpha1.DatabaseType]string{
		v1alpha1.DatabaseSQLite:     "SQLite now, in PersistentVolumeClaim " + sc.settings.ClaimName,
		v1alpha1.DatabasePostgreSQL: "PostgreSQL now",
		v1alpha1.DatabaseNone:       "no database now that outlives its pod",
	}[to]
	before := map[v1alpha1.DatabaseType]string{
		v1alpha1.DatabaseSQLite:     "PersistentVolumeClaim " + from.ClaimName + " with the SQLite database is kept",
		v1alpha1.DatabasePostgreSQL: "the PostgreSQL database is left as it is",
		v1alpha1.DatabaseNone:       "what it knew goes with its pod",
	}[from.Type]
	r.warn(sc.appView, "DatabaseSwitched", "the server uses %s; data is not moved, and %s", now, before)
}

// leftClaim is the sentence about a claim that the operator made for SQLite and that is not used; empty: there is none.
func (r *Reconciler) leftClaim(ctx context.Context, sc *scope) (string, error) {
	claim := &corev1.PersistentVolumeClaim{}
	name := render.ClaimName(sc.appView.Name)
	switch err := r.client.Get(ctx, sc.key(name), claim); {
	case apierrors.IsNotFound(err) || err == nil && !sc.owned(claim):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading PersistentVolumeClaim %s: %w", name, err)
	}
	return fmt.Sprintf("; data was not moved here from PersistentVolumeClaim %s, which is kept", name), nil
}
