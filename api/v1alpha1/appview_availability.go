package v1alpha1

// Availability of the server while nodes are drained or lost. With one replica there is nothing to spread or to keep.
type Availability struct {
	// pdb Auto (default) makes a PodDisruptionBudget that lets one pod go at a time, when spec.replicas is more than 1 or
	// spec.autoscaling is set. Disabled makes none.
	// +optional
	PDB AutoSwitch `json:"pdb,omitempty"`

	// topologySpread Auto (default) spreads the pods over nodes and zones as far as there are some, with PostgreSQL.
	// Disabled leaves it to the scheduler.
	// +optional
	TopologySpread AutoSwitch `json:"topologySpread,omitempty"`
}

// AutoSwitch leaves something to the operator, or turns it off.
// +kubebuilder:validation:Enum=Auto;Disabled
type AutoSwitch string

const (
	// AutoSwitchAuto leaves it to the operator.
	AutoSwitchAuto AutoSwitch = "Auto"
	// AutoSwitchDisabled turns it off.
	AutoSwitchDisabled AutoSwitch = "Disabled"
)
