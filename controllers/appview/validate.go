package appview

import (
	"context"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// validate refuses a spec that cannot work. What runs goes on running: the later steps are not taken.
func (r *Reconciler) validate(_ context.Context, sc *scope) error {
	if errs := v1alpha1.ValidateAppView(sc.appView); len(errs) > 0 {
		sc.explained, sc.retryStalled = true, 0
		err := errs.ToAggregate()
		sc.conditions.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalidSpec, err.Error())
		return outcome.Stall(v1alpha1.ReasonInvalidSpec, "%w", err)
	}
	if sc.settings.Image == "" {
		sc.explained, sc.retryStalled = true, 0
		const message = "spec.image is empty, and the operator was started without --appview-image: set one of them"
		sc.conditions.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalidSpec, message)
		return outcome.Stall(v1alpha1.ReasonInvalidSpec, message)
	}
	sc.conditions.True(v1alpha1.ConditionAccepted, v1alpha1.ReasonAccepted, "the spec is valid")
	sc.status.URL = sc.settings.BaseURL
	sc.status.Image = sc.settings.Image
	sc.status.Version = render.Version(sc.settings.Image)
	return nil
}
