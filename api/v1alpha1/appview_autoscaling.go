package v1alpha1

// Autoscaling makes a HorizontalPodAutoscaler that writes spec.replicas of this AppView by its scale subresource. With
// replicas: 0 it rests.
//
// +kubebuilder:validation:XValidation:rule="(has(self.min) ? self.min : 2) <= self.max",message="min, 2 unless you set it, must not be more than max"
type Autoscaling struct {
	// min is the fewest replicas. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	Min int32 `json:"min,omitempty"`

	// max is the most replicas.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	Max int32 `json:"max,omitempty"`

	// targetCPU is how much of podTemplate.resources.requests.cpu a replica should use on average, in percent. Default: 80.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	TargetCPU int32 `json:"targetCPU,omitempty"`
}

// Defaults of [Autoscaling].
const (
	DefaultAutoscalingMin       int32 = 2
	DefaultAutoscalingTargetCPU int32 = 80
)
