package optional

import "atcr.io/operator/controllers/render"

// The kinds that the operator can make use of.
var (
	HTTPRoute      = Kind{GroupVersionKind: render.HTTPRouteKind, Plural: "httproutes"}
	ServiceMonitor = Kind{GroupVersionKind: render.ServiceMonitorKind, Plural: "servicemonitors"}
	// Whoever owns a namespace grants; it is the version that clusters store.
	ReferenceGrant = Kind{GroupVersionKind: render.ReferenceGrantKind, Plural: "referencegrants", Foreign: true}
	Certificate    = Kind{GroupVersionKind: render.CertificateKind, Plural: "certificates"}
)

// All of them. The operator's role has a rule of its own for each (config/rbac/README.md).
func All() []Kind { return []Kind{HTTPRoute, Certificate, ServiceMonitor, ReferenceGrant} }
