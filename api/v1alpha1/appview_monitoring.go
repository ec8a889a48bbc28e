package v1alpha1

// Monitoring by a Prometheus of the Prometheus operator.
type Monitoring struct {
	// serviceMonitor Auto (default) makes a ServiceMonitor where the cluster serves the kind; with Enabled, condition
	// Monitored is false where it does not; Disabled makes none.
	// +optional
	ServiceMonitor ServiceMonitorMode `json:"serviceMonitor,omitempty"`

	// labels of the ServiceMonitor, by which your Prometheus selects it.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Labels map[string]string `json:"labels,omitempty"`
}

// ServiceMonitorMode says whether a ServiceMonitor is made.
// +kubebuilder:validation:Enum=Auto;Enabled;Disabled
type ServiceMonitorMode string

const (
	// ServiceMonitorAuto: if the cluster serves the kind.
	ServiceMonitorAuto ServiceMonitorMode = "Auto"
	// ServiceMonitorEnabled: if it does not, that is a failure.
	ServiceMonitorEnabled ServiceMonitorMode = "Enabled"
	// ServiceMonitorDisabled: none.
	ServiceMonitorDisabled ServiceMonitorMode = "Disabled"
)
