package appview

import (
	"context"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// autoscaler makes the HorizontalPodAutoscaler, or removes the one that is not asked for any more.
func (r *Reconciler) autoscaler(ctx context.Context, sc *scope) error {
	live := &autoscalingv2.HorizontalPodAutoscaler{}
	if sc.appView.Spec.Autoscaling != nil {
		return apply.Apply(ctx, r.applier, render.Autoscaler(sc.appView), live, sc.mayWrite)
	}
	switch err := r.client.Get(ctx, sc.key(sc.appView.Name), live); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading HorizontalPodAutoscaler %s: %w", sc.appView.Name, err)
	case !sc.owned(live) || !live.DeletionTimestamp.IsZero():
		return nil
	}
	uid := live.UID
	if err := r.client.Delete(ctx, live, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting HorizontalPodAutoscaler %s: %w", live.Name, err)
	}
	return nil
}
