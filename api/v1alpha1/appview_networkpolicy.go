package v1alpha1

import networkingv1 "k8s.io/api/networking/v1"

// NetworkPolicy says whether the cluster's network lets the server's pods talk only with whom they need. The cluster's
// network plugin must enforce NetworkPolicies.
type NetworkPolicy struct {
	// mode Enabled makes a NetworkPolicy, in the AppView's name. In: clients on port 5000; the operator, and metricsFrom,
	// on port 5001. Out: DNS, port 443 anywhere, the PostgreSQL, the holds of accepted HoldLinks, spec.identity, and
	// spec.network.allowedPrivateCIDRs. It follows HoldLinks and Secrets. Default: Disabled.
	// +optional
	Mode Switch `json:"mode,omitempty"`

	// metricsFrom may read metrics, and profiles, on port 5001. Default: the operator only; with a ServiceMonitor
	// (spec.monitoring), every pod of the cluster.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	MetricsFrom []networkingv1.NetworkPolicyPeer `json:"metricsFrom,omitempty"`

	// extraEgress are further rules for what the server connects to, for example a proxy, users' servers inside the
	// cluster, or the storage of a hold with download Proxy.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	ExtraEgress []networkingv1.NetworkPolicyEgressRule `json:"extraEgress,omitempty"`
}
