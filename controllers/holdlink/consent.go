package holdlink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/internal/trust"
)

// refusal is why a hold may not be called; the zero value is none.
type refusal struct {
	reason, message string
	denied          bool // consent was looked for, and there is none: what is known of the hold goes, too
}

// consent looks for what the operator needs before it calls the hold: a grant for a Service in another namespace, and the
// certificates that the hold's own is verified with.
func (r *Reconciler) consent(ctx context.Context, sc *scope) error {
	if !sc.callable {
		return nil
	}
	sc.access.namespace = sc.link.Namespace
	if service, named := r.resolver.service(sc.link); named && service.Namespace != sc.link.Namespace {
		refused, err := r.granted(ctx, sc.link, service)
		switch {
		case err != nil:
			return err
		case refused == refusal{}:
			sc.access.namespace = service.Namespace
		case sc.link.Spec.Hold.ServiceRef != nil: // of another, the address alone decides
			sc.refused = refused
			return nil
		}
	}
	bundle, again, err := trust.Bundle(ctx, r.userSecrets, sc.link)
	sc.lookAgain(again)
	var invalid trust.Invalid
	if errors.As(err, &invalid) {
		sc.refused = refusal{reason: v1alpha1.ReasonCABundleInvalid, message: invalid.Error()}
		return nil
	}
	sc.access.bundle = bundle
	return err
}

// granted says whether a Service of another namespace may be named.
func (r *Reconciler) granted(ctx context.Context, link *v1alpha1.HoldLink, service types.NamespacedName) (refusal, error) {
	refuse := func(format string, args ...any) (refusal, error) {
		return refusal{reason: v1alpha1.ReasonRefNotPermitted, message: fmt.Sprintf(
			"spec.hold.serviceRef names Service %s of namespace %s, ", service.Name, service.Namespace) + fmt.Sprintf(format, args...)}, nil
	}
	if watched := r.options.Namespaces; len(watched) > 0 && !slices.Contains(watched, service.Namespace) {
		return refuse("which this operator does not watch: add it to --watch-namespaces, or move the HoldLink there")
	}
	grants, err := r.options.Kinds.List(ctx, optional.ReferenceGrant, client.InNamespace(service.Namespace))
	switch {
	case errors.Is(err, optional.ErrUnsure):
		return refusal{}, fmt.Errorf("listing ReferenceGrants: the kind %w", err)
	case errors.Is(err, optional.ErrNotServed):
		return refuse("and this cluster does not serve ReferenceGrants, by which it could consent: install the Gateway API, or move the HoldLink there")
	case errors.Is(err, optional.ErrForbidden):
		return refuse("and the operator's role does not let it read ReferenceGrants: see config/rbac/README.md")
	case err != nil:
		return refusal{}, fmt.Errorf("listing ReferenceGrants: %w", err)
	}
	for i := range grants {
		if grants[i].GetDeletionTimestamp() == nil && lets(&grants[i], link.Namespace, service.Name) {
			return refusal{}, nil
		}
	}
	refused, err := refuse("which does not consent: create a ReferenceGrant there from kind HoldLink, group %s, namespace %s, to kind Service",
		v1alpha1.SchemeGroupVersion.Group, link.Namespace)
	refused.denied = true
	return refused, err
}

// lets says whether one ReferenceGrant lets HoldLinks of a namespace name a Service of its own.
func lets(grant *unstructured.Unstructured, from, service string) bool {
	has := func(field string, fits func(map[string]any) bool) bool {
		all, _, _ := unstructured.NestedSlice(grant.Object, "spec", field)
		return slices.ContainsFunc(all, func(v any) bool {
			m, ok := v.(map[string]any)
			return ok && fits(m)
		})
	}
	return has("from", func(m map[string]any) bool {
		return m["group"] == v1alpha1.SchemeGroupVersion.Group && m["kind"] == "HoldLink" && m["namespace"] == from
	}) && has("to", func(m map[string]any) bool {
		name, _ := m["name"].(string)
		return m["group"] == "" && m["kind"] == "Service" && (name == "" || name == service)
	})
}

// serviceNamespace is that of the Service that link names.
func serviceNamespace(link *v1alpha1.HoldLink) string {
	return cmp.Or(string(link.Spec.Hold.ServiceRef.Namespace), link.Namespace)
}

// lookAgain asks for another look after d; the soonest counts. Zero asks for nothing.
func (sc *scope) lookAgain(d time.Duration) {
	if d > 0 && (sc.again == 0 || d < sc.again) {
		sc.again = d
	}
}
