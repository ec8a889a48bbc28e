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
	if at := ownPods(&sc.appView.Spec); r.options.RestrictPods && at != "" {
		sc.explained, sc.retryStalled = true, 0
		message := at + " is set, and the operator was started with --restrict-pods: it runs its own image and nothing of yours in it; leave the field out"
		sc.conditions.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalidSpec, message)
		return outcome.Stall(v1alpha1.ReasonInvalidSpec, "%s", message)
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
