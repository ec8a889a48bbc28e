package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
)

// PodTemplate adds to the server's pods. The restricted Pod Security profile is applied on top and cannot be loosened.
type PodTemplate struct {
	// Metadata of the pods.
	// +optional
	Metadata Metadata `json:"metadata,omitempty,omitzero"`

	// Resources of the server's container.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty,omitzero"`

	// NodeSelector of the pods.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// Tolerations of the pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// PriorityClassName of the pods.
	// +optional
	PriorityClassName ObjectName `json:"priorityClassName,omitempty"`

	// Env are further variables of the server's container, for example HTTPS_PROXY.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Env []EnvVar `json:"env,omitempty"`
}

// EnvVar is one variable with a plain value.
type EnvVar struct {
	// Name of the variable. Those of the server itself are set by other fields.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('ATCR_') && self != 'TEST_MODE'",message="variables of the server (ATCR_*, TEST_MODE) are set by the fields of the spec"
	Name string `json:"name"`

	// Value of the variable; `$(NAME)` is not expanded.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`
}

// Metadata is labels and annotations.
type Metadata struct {
	// Labels to add. Those of the operator win.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations to add. Those of the operator win.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Annotations map[string]string `json:"annotations,omitempty"`
}
