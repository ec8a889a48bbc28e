package appview

import (
	"context"
	"errors"
	"fmt"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// validate refuses a spec that cannot work. What runs goes on running, and is looked at: no other step is taken.
func (r *Reconciler) validate(_ context.Context, sc *scope) error {
	if err := r.unfit(sc); err != nil {
		sc.retryStalled, sc.databaseUnfit = 0, true
		return outcome.Stall(v1alpha1.ReasonInvalidSpec, "%w", err)
	}
	sc.conditions.True(v1alpha1.ConditionAccepted, v1alpha1.ReasonAccepted, "the spec is valid")
	sc.status.URL = sc.settings.BaseURL
	sc.status.Image = sc.settings.Image
	sc.status.Version = render.Version(sc.settings.Image)
	return nil
}

// unfit says what is wrong with the spec.
func (r *Reconciler) unfit(sc *scope) error {
	if errs := v1alpha1.ValidateAppView(sc.appView); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if at := ownPods(&sc.appView.Spec); r.options.RestrictPods && at != "" {
		return fmt.Errorf("%s is set, and the operator was started with --restrict-pods: it runs its own image and nothing of yours in it; leave the field out", at)
	}
	if sc.settings.Image == "" {
		return errors.New("spec.image is empty, and the operator was started without --appview-image: set one of them")
	}
	return nil
}

// ownPods is the first field by which whoever writes the spec decides what runs in the pods and where; empty: none is
// set. Resources are not among them.
func ownPods(s *v1alpha1.AppViewSpec) string {
	t := s.PodTemplate
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"image", s.Image != ""},
		{"podTemplate.metadata", len(t.Metadata.Labels)+len(t.Metadata.Annotations) > 0},
		{"podTemplate.nodeSelector", len(t.NodeSelector) > 0},
		{"podTemplate.tolerations", len(t.Tolerations) > 0},
		{"podTemplate.affinity", t.Affinity != nil},
		{"podTemplate.priorityClassName", t.PriorityClassName != ""},
		{"podTemplate.env", len(t.Env) > 0},
		{"podTemplate.volumes", len(t.Volumes) > 0},
	} {
		if f.set {
			return "spec." + f.name
		}
	}
	return ""
}
