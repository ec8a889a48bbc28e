package optional

import "k8s.io/apimachinery/pkg/runtime/schema"

// The kinds that the operator can make use of.
var (
	HTTPRoute   = Kind{GroupVersionKind: gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"), Plural: "httproutes"}
	Certificate = Kind{GroupVersionKind: gvk("cert-manager.io", "v1", "Certificate"), Plural: "certificates"}
)

// All of them. The operator's role has a rule of its own for each (config/rbac/README.md).
func All() []Kind { return []Kind{HTTPRoute, Certificate} }

func gvk(group, version, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}
}
