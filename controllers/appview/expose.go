package appview

import (
	"context"
	"errors"
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// expose makes the Ingress or the HTTPRoute that the spec asks for, and takes away the one that it does not. What is wrong
// here keeps no server from running.
func (r *Reconciler) expose(ctx context.Context, sc *scope) error {
	if sc.certificateUnknown() {
		return nil
	}
	want := sc.appView.Spec.Exposure
	var err error
	if want.Ingress == nil {
		err = r.withdraw(ctx, sc, "Ingress", r.client.Get, &networkingv1.Ingress{})
	}
	if want.Gateway == nil {
		err = errors.Join(err, r.withdraw(ctx, sc, optional.HTTPRoute.Kind, r.optional(optional.HTTPRoute), optional.HTTPRoute.New()))
	}
	switch {
	case want.Ingress != nil:
		err = errors.Join(err, r.ingress(ctx, sc))
	case want.Gateway != nil:
		err = errors.Join(err, r.route(ctx, sc))
	case want.TLS == nil:
		sc.conditions.False(v1alpha1.ConditionExposed, v1alpha1.ReasonNotRequested, fmt.Sprintf(
			"Service %s is reached by its own addresses (status.endpoints); exposure.ingress or exposure.gateway puts more in front of it", sc.appView.Name))
	}
	if err = sc.exposed(refusal(err, "spec.exposure")); err == nil {
		sc.exposedBy()
	}
	return err
}

// exposedBy adds the server's certificate to the condition: nobody can use what is in front of a server without one, or of
// one that does not speak as it should yet.
func (sc *scope) exposedBy() {
	c, front := sc.certificate, len(render.ExposedHosts(sc.appView)) > 0
	switch said := sc.conditions.Get(v1alpha1.ConditionExposed); {
	case c.failed:
		sc.conditions.False(v1alpha1.ConditionExposed, c.reason, c.message)
	case front && said.Status != metav1.ConditionTrue, !front && c.reason == "":
	case sc.turning():
		sc.conditions.False(v1alpha1.ConditionExposed, v1alpha1.ReasonRollingOut, sc.untilTurned())
	case !front:
		sc.conditions.True(v1alpha1.ConditionExposed, c.reason, c.message)
	case c.reason != "":
		sc.conditions.True(v1alpha1.ConditionExposed, c.reason, said.Message+"; "+c.message)
	}
}

// exposed says in the condition what keeps the object from being written. What another try may help is returned.
func (sc *scope) exposed(err error) error {
	stalled, isStalled := outcome.IsStalled(err)
	switch {
	case isStalled:
		sc.stalled = true
		sc.again(refusedRetry)
		sc.conditions.False(v1alpha1.ConditionExposed, stalled.Reason, stalled.Error())
	case errors.Is(err, optional.ErrNotServed):
		sc.stalled = true
		sc.again(refusedRetry)
		sc.conditions.False(v1alpha1.ConditionExposed, v1alpha1.ReasonCRDNotServed,
			"spec.exposure.gateway needs HTTPRoute of gateway.networking.k8s.io/v1, which this cluster does not serve: install the Gateway API, or use spec.exposure.ingress")
	case errors.Is(err, optional.ErrForbidden):
		sc.stalled = true
		sc.again(refusedRetry)
		sc.conditions.False(v1alpha1.ConditionExposed, v1alpha1.ReasonNotPermitted,
			"the operator's role does not let it write what spec.exposure asks for: see config/rbac/README.md")
	default:
		return err
	}
	return nil
}

func (r *Reconciler) ingress(ctx context.Context, sc *scope) error {
	live := &networkingv1.Ingress{}
	if sc.turning() { // its annotations say how its controller is to speak to the server
		if err := r.client.Get(ctx, sc.key(sc.appView.Name), live); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading Ingress %s: %w", sc.appView.Name, err)
		}
	}
	if !sc.turning() || !sc.owned(live) {
		if err := apply.Apply(ctx, r.applier, render.Ingress(sc.appView, sc.settings), live, sc.mayWrite); err != nil {
			return err
		}
	}
	// Many controllers never write an address: that one is there is good to know, and no condition.
	var at []string
	for _, i := range live.Status.LoadBalancer.Ingress {
		at = append(at, i.Hostname+i.IP)
	}
	message := fmt.Sprintf("Ingress %s routes %s", live.Name, hostList(sc.appView))
	if len(at) > 0 {
		message += " at " + strings.Join(at, ", ")
	}
	sc.conditions.True(v1alpha1.ConditionExposed, v1alpha1.ReasonAccepted, message)
	return nil
}

func (r *Reconciler) route(ctx context.Context, sc *scope) error {
	want := render.HTTPRoute(sc.appView, sc.settings)
	live, err := r.applyOptional(ctx, sc, optional.HTTPRoute, want)
	if err != nil {
		return err
	}
	for i, p := range sc.appView.Spec.Exposure.Gateway.ParentRefs {
		switch accepted, reason, message := routeAccepted(live, i); {
		case accepted:
		case reason == "":
			sc.conditions.False(v1alpha1.ConditionExposed, v1alpha1.ReasonPending, fmt.Sprintf(
				"no controller of Gateway %s has answered for HTTPRoute %s yet: check that the Gateway exists and admits routes from this namespace", p.Name, live.GetName()))
			return nil
		default:
			sc.conditions.False(v1alpha1.ConditionExposed, v1alpha1.ReasonNotAccepted, fmt.Sprintf(
				"Gateway %s does not take HTTPRoute %s (%s): %s", p.Name, live.GetName(), reason, message))
			return nil
		}
	}
	sc.conditions.True(v1alpha1.ConditionExposed, v1alpha1.ReasonAccepted, fmt.Sprintf("HTTPRoute %s routes %s", live.GetName(), hostList(sc.appView)))
	return nil
}

// routeAccepted reads what the controller of the i-th parent says of this generation of the route. Without a reason it
// has said nothing.
func routeAccepted(route *unstructured.Unstructured, i int) (accepted bool, reason, message string) {
	wanted, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
	parents, _, _ := unstructured.NestedSlice(route.Object, "status", "parents")
	if i >= len(wanted) {
		return false, "", ""
	}
	want, _ := wanted[i].(map[string]any)
	for _, p := range parents {
		parent, _ := p.(map[string]any)
		ref, _ := parent["parentRef"].(map[string]any)
		if !apply.Contains(ref, want) {
			continue
		}
		conditions, _ := parent["conditions"].([]any)
		for _, c := range conditions {
			condition, _ := c.(map[string]any)
			kind, _ := condition["type"].(string)
			status, _ := condition["status"].(string)
			if observed, ok := condition["observedGeneration"].(int64); ok && observed < route.GetGeneration() {
				continue
			}
			switch {
			case kind != "Accepted" && kind != "ResolvedRefs":
			case status == "True":
				accepted = accepted || kind == "Accepted"
			default:
				reason, _ = condition["reason"].(string)
				message, _ = condition["message"].(string)
				return false, kind + "=" + status + "/" + reason, message
			}
		}
	}
	return accepted, "", ""
}

func hostList(av *v1alpha1.AppView) string {
	var hosts []string
	for _, h := range render.ExposedHosts(av) {
		hosts = append(hosts, string(h))
	}
	return strings.Join(hosts, ", ")
}

// applyOptional applies an object of a kind that may not be served.
func (r *Reconciler) applyOptional(ctx context.Context, sc *scope, kind optional.Kind, want *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if err := r.options.Kinds.Readable(ctx, kind); err != nil {
		return nil, err
	}
	return r.applier.Object(ctx, want, func(into *unstructured.Unstructured) error {
		return r.options.Kinds.Get(ctx, kind, client.ObjectKeyFromObject(want), into)
	}, sc.mayWrite)
}

type getter func(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error

// optional reads objects of a kind that may not be served.
func (r *Reconciler) optional(kind optional.Kind) getter {
	return func(ctx context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
		return r.options.Kinds.Get(ctx, kind, key, o.(*unstructured.Unstructured))
	}
}

// withdraw deletes what the operator made for the AppView, by its name, and the spec no longer asks for.
func (r *Reconciler) withdraw(ctx context.Context, sc *scope, kind string, get getter, o client.Object) error {
	return r.withdrawNamed(ctx, sc, kind, sc.appView.Name, get, o)
}

func (r *Reconciler) withdrawNamed(ctx context.Context, sc *scope, kind, name string, get getter, o client.Object) error {
	err := get(ctx, sc.key(name), o)
	switch {
	case apierrors.IsNotFound(err), errors.Is(err, optional.ErrNotServed), errors.Is(err, optional.ErrForbidden):
		return nil
	case err != nil:
		return fmt.Errorf("reading %s %s: %w", kind, name, err)
	case !sc.owned(o) || !o.GetDeletionTimestamp().IsZero():
		return nil
	}
	uid := o.GetUID()
	if err := r.client.Delete(ctx, o, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s %s: %w", kind, name, err)
	}
	r.note(sc.appView, "Deleted", "deleted %s %s, which the spec no longer asks for", kind, name)
	return nil
}
