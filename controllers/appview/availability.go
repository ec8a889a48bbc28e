package appview

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"

	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// budget makes the PodDisruptionBudget of several replicas, or removes the one that is not wanted any more.
func (r *Reconciler) budget(ctx context.Context, sc *scope) error {
	live := &policyv1.PodDisruptionBudget{}
	if render.WantsBudget(sc.appView, sc.settings) {
		return refusal(apply.Apply(ctx, r.applier, render.Budget(sc.appView), live, sc.mayWrite), "spec.availability")
	}
	return refusal(r.withdraw(ctx, sc, "PodDisruptionBudget", r.client.Get, live), "spec.availability")
}
