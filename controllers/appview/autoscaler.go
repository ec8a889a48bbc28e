package appview

import (
	"context"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// autoscaler makes the HorizontalPodAutoscaler, or removes the one that is not asked for any more.
func (r *Reconciler) autoscaler(ctx context.Context, sc *scope) error {
	live := &autoscalingv2.HorizontalPodAutoscaler{}
	if sc.appView.Spec.Autoscaling != nil {
		return refusal(apply.Apply(ctx, r.applier, render.Autoscaler(sc.appView), live, sc.mayWrite), "spec.autoscaling")
	}
	return refusal(r.withdraw(ctx, sc, "HorizontalPodAutoscaler", r.client.Get, live), "spec.autoscaling")
}
