package appview

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	apiac "atcr.io/operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
)

// writeStatus writes what the reconcile found, when it differs from what is there, and then says aloud what changed.
func (r *Reconciler) writeStatus(ctx context.Context, sc *scope) error {
	av, after := sc.appView, sc.status
	after.Conditions = sc.conditions.Conditions
	if !equality.Semantic.DeepEqual(av.Status, after) {
		status, err := statusConfiguration(after)
		if err != nil {
			return err
		}
		// The version keeps what was found out about one object off its successor of the same name.
		want := apiac.AppView(av.Name, av.Namespace).WithResourceVersion(av.ResourceVersion).WithStatus(status)
		if err := r.client.Status().Apply(ctx, want, apply.FieldOwner, client.ForceOwnership); err != nil {
			return fmt.Errorf("writing status: %w", err)
		}
		r.metrics.statusWrites.Inc()
	}
	for _, t := range transitions(av.Status.Conditions, after.Conditions) {
		if t.Status == metav1.ConditionTrue && t.Reason != v1alpha1.ReasonExpiringSoon {
			r.note(av, t.Reason, "%s: %s", t.Type, t.Message)
		} else {
			r.warn(av, t.Reason, "%s: %s", t.Type, t.Message)
		}
	}
	r.metrics.observe(av, &after)
	return nil
}

// statusConfiguration turns the status into its apply configuration; both have the same JSON.
func statusConfiguration(s v1alpha1.AppViewStatus) (*apiac.AppViewStatusApplyConfiguration, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding status: %w", err)
	}
	var out apiac.AppViewStatusApplyConfiguration
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("encoding status: %w", err)
	}
	return &out, nil
}
