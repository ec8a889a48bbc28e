package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterPull is about pulls by the nodes of this cluster. Nodes do not use the cluster's DNS: they need to be told where
// the registry is, and whom to trust.
type ClusterPull struct {
	// endpoint that nodes pull from: ClusterIP (default), which kube-proxy routes on every node; or NodePort, the node's
	// own port at localhost, which needs exposure.service.type NodePort or LoadBalancer.
	// +optional
	Endpoint PullEndpoint `json:"endpoint,omitempty"`

	// registries are the names in image references, host or host:port, that nodes pull from the endpoint. Default: the host
	// of baseURL and the exposed hosts.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Registries []Registry `json:"registries,omitempty"`

	// localRegistryHosting writes, when Enabled, ConfigMap local-registry-hosting in namespace kube-public (KEP-1755), by which
	// developers' tools find the registry of a cluster. There is one in a cluster. Default: Disabled.
	// +optional
	LocalRegistryHosting Switch `json:"localRegistryHosting,omitempty"`

	// pullSecrets copies a pull secret into namespaces that opt in. Default: none is copied.
	// +optional
	PullSecrets *PullSecrets `json:"pullSecrets,omitempty"`
}

// PullEndpoint is a way from a node to the server.
// +kubebuilder:validation:Enum=ClusterIP;NodePort
type PullEndpoint string

const (
	PullClusterIP PullEndpoint = "ClusterIP"
	PullNodePort  PullEndpoint = "NodePort"
)

// Registry is the part of an image reference before the first slash: a host's name or IPv4 address, and a port if there
// is one.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=200
// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?$`
type Registry string

// PullSecrets copies a Secret into other namespaces, for the pods there. A namespace opts in by the label
// operator.atcr.io/pull-secrets-from=NAMESPACE, which names the AppView's. A Secret of the same name that is there already
// is never touched.
type PullSecrets struct {
	// sourceSecretRef names the Secret to copy, in the AppView's namespace, with entry .dockerconfigjson: all of it goes to
	// those namespaces. Label it operator.atcr.io/watch=true to have changes copied at once; else it is read every ten
	// minutes.
	// +required
	SourceSecretRef LocalReference `json:"sourceSecretRef,omitzero"`

	// namespaceSelector leaves out namespaces that opted in and do not match. Default: none is left out.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// serviceAccounts of those namespaces whose pods use the copy without naming it. An empty list: none. Default: default.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	ServiceAccounts []ObjectName `json:"serviceAccounts,omitzero"` //nolint:kubeapilinter // an empty list is not the default: it stays, in Go too
}
