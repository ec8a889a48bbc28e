package v1alpha1

// Policy says what becomes of something when its AppView is deleted.
// +kubebuilder:validation:Enum=Retain;Delete
type Policy string

const (
	Retain Policy = "Retain"
	Delete Policy = "Delete"
)

// Reconciliation says whether the operator acts on an object.
// +kubebuilder:validation:Enum=Active;Suspended
type Reconciliation string

const (
	Active    Reconciliation = "Active"
	Suspended Reconciliation = "Suspended"
)

// Switch turns something on or off.
// +kubebuilder:validation:Enum=Disabled;Enabled
type Switch string

const (
	Disabled Switch = "Disabled"
	Enabled  Switch = "Enabled"
)

// DID is a decentralized identifier: did:plc, or did:web of a host with an optional port as `%3A` or `:`.
// +kubebuilder:validation:MaxLength=270
// +kubebuilder:validation:Pattern=`^did:(plc:[a-z2-7]{24}|web:[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?((:|%3A)[0-9]{1,5})?)$`
type DID string

// Origin is the scheme, host and optional port of a URL: no path, no query, no fragment, no user.
// +kubebuilder:validation:MaxLength=300
// +kubebuilder:validation:Pattern=`^https?://[a-zA-Z0-9\[]([a-zA-Z0-9.:-]*[a-zA-Z0-9\]])?$`
type Origin string

// ObjectName is the name of a Kubernetes object.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
type ObjectName string

// ServiceName is the name of a Service.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
type ServiceName string

// NamespaceName is the name of a namespace.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
type NamespaceName string

// Duration is a length of time as Go writes it: `90s`, `5m`, `1h30m`.
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
type Duration string

// LocalReference names an object in the same namespace.
type LocalReference struct {
	// name of the object.
	// +required
	Name ObjectName `json:"name,omitempty"`
}
