package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
)

// PodTemplate adds to the server's pods. The restricted Pod Security profile is applied on top and cannot be loosened.
type PodTemplate struct {
	// metadata of the pods.
	// +optional
	Metadata Metadata `json:"metadata,omitempty,omitzero"`

	// resources of the server's container, without claims.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.claims)",message="claims of devices are not taken: the server uses none"
	Resources corev1.ResourceRequirements `json:"resources,omitempty,omitzero"`

	// nodeSelector of the pods.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations of the pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity of the pods.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// priorityClassName of the pods.
	// +optional
	PriorityClassName ObjectName `json:"priorityClassName,omitempty"`

	// env are further variables of the server's container, for example HTTPS_PROXY.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Env []EnvVar `json:"env,omitempty"`

	// volumes are further files in the server's container, read-only, for example what a variable of env names.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.mountPath == b.mountPath))",message="two volumes have the same mountPath"
	Volumes []Volume `json:"volumes,omitempty"`
}

// Volume is a ConfigMap or a Secret of the AppView's namespace, mounted read-only. It must exist for pods to start.
// +kubebuilder:validation:ExactlyOneOf=configMap;secret
type Volume struct {
	// name of the volume.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=57
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// mountPath in the container; not where the server's own files are.
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^/(etc|var|var/lib|(etc/atcr|var/lib/atcr|var/lib/atcr-backup|tmp|dev|proc|sys)(/.*)?)$')",message="mountPath is where the server or the system keeps its own files"
	MountPath string `json:"mountPath,omitempty"`

	// configMap to mount.
	// +optional
	ConfigMap *LocalReference `json:"configMap,omitempty"`

	// secret to mount.
	// +optional
	Secret *LocalReference `json:"secret,omitempty"`
}

// EnvVar is one variable with a plain value.
type EnvVar struct {
	// name of the variable. Those of the server itself are set by other fields.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('ATCR_') && self != 'TEST_MODE'",message="variables of the server (ATCR_*, TEST_MODE) are set by the fields of the spec"
	Name string `json:"name,omitempty"`

	// value of the variable; `$(NAME)` is not expanded.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`
}

// Metadata is labels and annotations.
type Metadata struct {
	// labels to add. Those of the operator win.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Labels map[string]string `json:"labels,omitempty"`

	// annotations to add. Those of the operator win.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Annotations map[string]string `json:"annotations,omitempty"`
}
