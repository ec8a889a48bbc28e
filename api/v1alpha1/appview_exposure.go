package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
)

// Exposure says how clients reach the server.
type Exposure struct {
	// Service in front of the server's pods; it has the AppView's name.
	// +optional
	Service Service `json:"service,omitempty,omitzero"`
}

// Service in front of the server's pods.
// +kubebuilder:validation:XValidation:rule="!has(self.nodePort) || (has(self.type) && self.type in ['NodePort','LoadBalancer'])",message="nodePort needs type NodePort or LoadBalancer"
type Service struct {
	// Type: ClusterIP (default), NodePort or LoadBalancer.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// Port of the Service. Default: 5000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// NodePort to ask for. Default: the cluster chooses.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	NodePort int32 `json:"nodePort,omitempty"`

	// Annotations of the Service, for example for a load balancer.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Annotations map[string]string `json:"annotations,omitempty"`
}
