package holdlink

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	apiac "atcr.io/operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/conditions"
)

// maxNote is the API's limit on the text of an event.
const maxNote = 1024

// writeStatus writes what the reconcile found, when it differs from what is there, and then says aloud what changed.
func (r *Reconciler) writeStatus(ctx context.Context, sc *scope) error {
	link, after := sc.link, sc.status
	after.Conditions = sc.conditions.Conditions
	if !equality.Semantic.DeepEqual(link.Status, after) {
		raw, err := json.Marshal(after)
		if err != nil {
			return fmt.Errorf("encoding status: %w", err)
		}
		var status apiac.HoldLinkStatusApplyConfiguration
		if err := json.Unmarshal(raw, &status); err != nil {
			return fmt.Errorf("encoding status: %w", err)
		}
		// The version keeps what was found out about one object off its successor of the same name.
		want := apiac.HoldLink(link.Name, link.Namespace).WithResourceVersion(link.ResourceVersion).WithStatus(&status)
		if err := r.client.Status().Apply(ctx, want, apply.FieldOwner, client.ForceOwnership); err != nil {
			return fmt.Errorf("writing status: %w", err)
		}
		r.metrics.statusWrites.Inc()
	}
	r.metrics.observe(link, after.Conditions)
	if of := after.IsDefaultFor; of != "" && of != link.Status.IsDefaultFor {
		r.event(link, corev1.EventTypeNormal, "DefaultHold", "now the default hold of AppView "+of)
	}
	for _, t := range conditions.Transitions(link.Status.Conditions, after.Conditions, evented) {
		switch {
		case t.Status == metav1.ConditionTrue:
			r.event(link, corev1.EventTypeNormal, t.Reason, t.Type+": "+t.Message)
		case t.Type != v1alpha1.ConditionReady: // Ready repeats another condition
			r.event(link, corev1.EventTypeWarning, t.Reason, t.Type+": "+t.Message)
		}
	}
	return nil
}

func (r *Reconciler) event(link *v1alpha1.HoldLink, kind, reason, note string) {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-3], "") + "..."
	}
	r.events.Eventf(link, nil, kind, reason, "Reconcile", "%s", note)
}
