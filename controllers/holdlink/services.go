package holdlink

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
)

// serviceOf is the Service that a host name in the cluster's DNS belongs to: SERVICE.NAMESPACE.svc, with or without the
// cluster's domain, or a pod of it.
func (r *Resolver) serviceOf(host string) (types.NamespacedName, bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	host = strings.TrimSuffix(host, "."+strings.Trim(strings.ToLower(r.domain), "."))
	rest, svc := strings.CutSuffix(host, ".svc")
	labels := strings.Split(rest, ".")
	if n := len(labels); svc && n >= 2 {
		return types.NamespacedName{Namespace: labels[n-1], Name: labels[n-2]}, true
	}
	return types.NamespacedName{}, false
}

// service is the one that link names, by serviceRef or by its name in the cluster's DNS.
func (r *Resolver) service(link *v1alpha1.HoldLink) (types.NamespacedName, bool) {
	if ref := link.Spec.Hold.ServiceRef; ref != nil {
		return types.NamespacedName{Namespace: serviceNamespace(link), Name: string(ref.Name)}, true
	}
	at := string(link.Spec.Hold.URL)
	if at == "" {
		at = string(link.Spec.Endpoint)
	}
	u, err := url.Parse(at)
	if err != nil {
		return types.NamespacedName{}, false
	}
	return r.serviceOf(u.Hostname())
}

// elsewhere refuses a Service that only stands for another name: whoever made it would choose what the operator calls.
func (r *Resolver) elsewhere(ctx context.Context, link *v1alpha1.HoldLink, a access) (Found, bool) {
	key, ok := r.service(link)
	if !ok || key.Namespace != a.namespace {
		return Found{}, false
	}
	svc := &corev1.Service{}
	if err := r.services.Get(ctx, key, svc); client.IgnoreNotFound(err) != nil || svc.Spec.Type != corev1.ServiceTypeExternalName {
		return Found{}, false // what else may be wrong with it is found by calling it
	}
	return Found{Reason: v1alpha1.ReasonBlockedAddress, Message: fmt.Sprintf(
		"Service %s is of type ExternalName, which the operator does not follow: name the hold's public URL in spec.hold.url", key)}, true
}
