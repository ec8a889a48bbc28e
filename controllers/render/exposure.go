package render

import (
	"maps"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"atcr.io/operator/api/v1alpha1"
)

// Kinds that a cluster may not serve.
var (
	HTTPRouteKind      = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}
	ReferenceGrantKind = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1beta1", Kind: "ReferenceGrant"}
	ServiceMonitorKind = schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "ServiceMonitor"}
	CertificateKind    = schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}
)

// ExposedHosts are the hosts that an Ingress or a Gateway answers for; none when the spec asks for neither.
func ExposedHosts(av *v1alpha1.AppView) []v1alpha1.Hostname {
	switch e := av.Spec.Exposure; {
	case e.Ingress != nil:
		return e.Ingress.Hosts
	case e.Gateway != nil:
		return e.Gateway.Hostnames
	}
	return nil
}

// exposedURL is the URL of the first exposed host; empty: none is exposed.
func exposedURL(av *v1alpha1.AppView) string {
	if hosts := ExposedHosts(av); len(hosts) > 0 {
		return "https://" + string(hosts[0])
	}
	return ""
}

// Ingress in front of the Service; av's spec must ask for one.
func Ingress(av *v1alpha1.AppView, s Settings) *networkingv1ac.IngressApplyConfiguration {
	want := av.Spec.Exposure.Ingress
	spec := networkingv1ac.IngressSpec()
	if want.ClassName != "" {
		spec.WithIngressClassName(string(want.ClassName))
	}
	tls := networkingv1ac.IngressTLS()
	for _, host := range want.Hosts {
		tls.WithHosts(string(host))
		spec.WithRules(networkingv1ac.IngressRule().WithHost(string(host)).WithHTTP(networkingv1ac.HTTPIngressRuleValue().WithPaths(
			networkingv1ac.HTTPIngressPath().WithPath("/").WithPathType(networkingv1.PathTypePrefix).WithBackend(
				networkingv1ac.IngressBackend().WithService(networkingv1ac.IngressServiceBackend().WithName(av.Name).
					WithPort(networkingv1ac.ServiceBackendPort().WithNumber(s.ServicePort)))))))
	}
	if want.TLSSecretName != "" {
		tls.WithSecretName(string(want.TLSSecretName))
	}
	return networkingv1ac.Ingress(av.Name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, maps.Clone(want.Annotations))).
		WithOwnerReferences(owner(av)).
		WithSpec(spec.WithTLS(tls))
}

// HTTPRoute from Gateways to the Service; av's spec must ask for one.
func HTTPRoute(av *v1alpha1.AppView, s Settings) *unstructured.Unstructured {
	want := av.Spec.Exposure.Gateway
	var parents, hosts []any
	for _, p := range want.ParentRefs {
		parents = append(parents, parent(p))
	}
	for _, h := range want.Hostnames {
		hosts = append(hosts, string(h))
	}
	return object(av, HTTPRouteKind, av.Name, map[string]any{
		"parentRefs": parents,
		"hostnames":  hosts,
		"rules": []any{map[string]any{
			"backendRefs": []any{map[string]any{"name": av.Name, "port": int64(s.ServicePort)}},
			// A layer takes as long as it moves; many Gateways would cut it off after 15 seconds.
			"timeouts": map[string]any{"request": "0s"},
		}},
	})
}

func parent(p v1alpha1.ParentReference) map[string]any {
	out := map[string]any{"name": string(p.Name)}
	if p.Namespace != "" {
		out["namespace"] = string(p.Namespace)
	}
	if p.SectionName != "" {
		out["sectionName"] = p.SectionName
	}
	if p.Port != 0 {
		out["port"] = int64(p.Port)
	}
	return out
}

// object of an optional kind, with av's labels and owner.
func object(av *v1alpha1.AppView, kind schema.GroupVersionKind, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	o.SetNamespace(av.Namespace)
	o.SetName(name)
	o.SetLabels(Labels(av))
	if a := annotations(av, nil); len(a) > 0 {
		o.SetAnnotations(a)
	}
	metadata := o.Object["metadata"].(map[string]any)
	metadata["ownerReferences"] = []any{map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "AppView", "name": av.Name, "uid": string(av.UID),
		"controller": true, "blockOwnerDeletion": true,
	}}
	o.Object["spec"] = spec
	return o
}
