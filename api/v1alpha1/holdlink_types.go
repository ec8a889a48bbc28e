package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HoldLink attaches a hold, the service that stores blobs, to an AppView. It asks; the AppView admits
// (spec.holdLinks.allowedNamespaces). The operator finds the hold's DID, watches its health, and tells the server.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=hl,categories=atcr
// +kubebuilder:subresource:status
// +kubebuilder:selectablefield:JSONPath=`.spec.appViewRef.name`
// +kubebuilder:printcolumn:name="AppView",type=string,JSONPath=`.spec.appViewRef.name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="DID",type=string,JSONPath=`.status.did`
// +kubebuilder:printcolumn:name="Healthy",type=string,JSONPath=`.status.conditions[?(@.type=="Healthy")].status`
// +kubebuilder:printcolumn:name="Default",type=string,JSONPath=`.status.isDefaultFor`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Endpoint",type=string,priority=1,JSONPath=`.status.endpoint`
// +kubebuilder:printcolumn:name="Since",type=date,priority=1,JSONPath=`.status.health.since`
// +kubebuilder:printcolumn:name="Display Name",type=string,priority=1,JSONPath=`.spec.displayName`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type HoldLink struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is Kubernetes' own.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what you ask for.
	// +required
	Spec HoldLinkSpec `json:"spec,omitzero"`

	// status is what the operator sees.
	// +optional
	// +default={"observedGeneration":-1}
	Status HoldLinkStatus `json:"status,omitempty,omitzero"`
}

// HoldLinkList is a list of HoldLinks.
// +kubebuilder:object:root=true
type HoldLinkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HoldLink `json:"items"`
}

// HoldLinkSpec is what you ask for.
// +kubebuilder:validation:XValidation:rule="!has(self.endpoint) || has(self.hold.did)",message="endpoint goes with hold.did only: a url or a serviceRef is its own endpoint"
type HoldLinkSpec struct {
	// appViewRef names the AppView to attach to. Immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="appViewRef is immutable: delete the HoldLink and create another"
	AppViewRef AppViewReference `json:"appViewRef,omitzero"`

	// hold names the hold in one of three ways. Immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="hold is immutable: delete the HoldLink and create another"
	Hold HoldSource `json:"hold,omitzero"`

	// endpoint is where the AppView reaches the hold when that is not what its DID document says, for example the
	// hold's Service inside the cluster. The did.json served there must name the same DID. With hold.did only.
	// +optional
	Endpoint Origin `json:"endpoint,omitempty"`

	// download says how clients get blobs: Redirect sends them to the hold, Proxy streams the bytes through the
	// AppView, for a hold that clients cannot reach. Default: Proxy for a serviceRef, else Redirect.
	// +optional
	Download Download `json:"download,omitempty"`

	// displayName of the hold for people who read kubectl get -o wide, at most 128 characters.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	DisplayName string `json:"displayName,omitempty"`

	// trust says whose certificate the hold may show. Default: that of a public authority.
	// +optional
	Trust Trust `json:"trust,omitempty,omitzero"`

	// healthCheck says how the hold is asked whether it is well: a GET that must answer 200.
	// +optional
	HealthCheck HealthCheck `json:"healthCheck,omitempty,omitzero"`

	// role Candidate (default) may become the AppView's default hold when it is the only one; Member never does unless
	// spec.defaultHold names it.
	// +optional
	Role Role `json:"role,omitempty"`

	// reconciliation Suspended leaves everything as it is until Active. Default: Active.
	// +optional
	Reconciliation Reconciliation `json:"reconciliation,omitempty"`
}

// AppViewReference names an AppView.
type AppViewReference struct {
	// name of the AppView.
	// +required
	Name ObjectName `json:"name,omitempty"`

	// namespace of the AppView. Default: the HoldLink's.
	// +optional
	Namespace NamespaceName `json:"namespace,omitempty"`
}

// HoldSource names a hold in one of three ways.
// +kubebuilder:validation:ExactlyOneOf=did;url;serviceRef
type HoldSource struct {
	// did of the hold. Its endpoint is in its DID document, unless spec.endpoint says otherwise.
	// +optional
	DID DID `json:"did,omitempty"`

	// url of the hold; its did.json must name the did:web of that host.
	// +optional
	URL Origin `json:"url,omitempty"`

	// serviceRef names the hold's Service; its did.json names the DID.
	// +optional
	ServiceRef *ServiceReference `json:"serviceRef,omitempty"`
}

// ServiceReference names a port of a Service.
type ServiceReference struct {
	// name of the Service.
	// +required
	Name ServiceName `json:"name,omitempty"`

	// namespace of the Service. Default: the HoldLink's. Another one must consent by a ReferenceGrant of the Gateway API,
	// from HoldLinks of this namespace to its Services.
	// +optional
	Namespace NamespaceName `json:"namespace,omitempty"`

	// port of the Service. Default: its only port, or 80.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// scheme is http (default) or https.
	// +optional
	// +kubebuilder:validation:Enum=http;https
	Scheme string `json:"scheme,omitempty"`
}

// Trust is in certificates that are not those of public authorities. The operator and the AppView's server use it for this
// hold alone, and for the storage that it sends them to.
type Trust struct {
	// caBundleSecretRef names a Secret with certificates, in the HoldLink's namespace: 6 KiB of PEM at most. Label it
	// operator.atcr.io/watch=true to have changes seen at once; else it is read every ten minutes.
	// +optional
	CABundleSecretRef *CASecretReference `json:"caBundleSecretRef,omitempty"`
}

// Download says how clients get blobs.
// +kubebuilder:validation:Enum=Redirect;Proxy
type Download string

const (
	DownloadRedirect Download = "Redirect"
	DownloadProxy    Download = "Proxy"
)

// Role of a hold among its AppView's.
// +kubebuilder:validation:Enum=Member;Candidate
type Role string

const (
	RoleMember    Role = "Member"
	RoleCandidate Role = "Candidate"
)

// HealthCheck says how the hold is asked whether it is well: a GET that must answer 200.
// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || !has(self.interval) || duration(self.timeout) <= duration(self.interval)",message="timeout must not be longer than interval"
type HealthCheck struct {
	// path to GET. Default: /xrpc/_health.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9._~/-]*$`
	Path string `json:"path,omitempty"`

	// interval from the beginning of one check to that of the next, 10s to 1h. Default: 1m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('1h')",message="interval must be between 10s and 1h"
	Interval Duration `json:"interval,omitempty"`

	// timeout of one check, 1s to 30s and not longer than the interval. Default: 5s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('30s')",message="timeout must be between 1s and 30s"
	Timeout Duration `json:"timeout,omitempty"`

	// failureThreshold is how many checks in a row must fail before the hold counts as unhealthy. Default: 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	FailureThreshold int32 `json:"failureThreshold,omitempty"`

	// successThreshold is how many checks in a row must succeed before it counts as healthy again. Default: 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
}

// HoldLinkStatus is what the operator sees.
type HoldLinkStatus struct {
	// observedGeneration is the generation that the conditions speak of; -1 before the first look.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, Reconciling, Stalled, Accepted, Resolved, Healthy, Programmed.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// did of the hold.
	// +optional
	// +kubebuilder:validation:MaxLength=270
	DID string `json:"did,omitempty"`

	// endpoint where the hold is reached.
	// +optional
	// +kubebuilder:validation:MaxLength=300
	Endpoint string `json:"endpoint,omitempty"`

	// resolvedFrom is what DID and endpoint were found by: spec.hold and spec.endpoint as one string.
	// +optional
	// +kubebuilder:validation:MaxLength=640
	ResolvedFrom string `json:"resolvedFrom,omitempty"`

	// lastResolvedTime is when the hold's DID document was last read and right; refreshed when it changes something.
	// +optional
	LastResolvedTime *metav1.Time `json:"lastResolvedTime,omitempty"`

	// download in force.
	// +optional
	Download Download `json:"download,omitempty"`

	// health of the hold.
	// +optional
	Health HealthStatus `json:"health,omitempty,omitzero"`

	// isDefaultFor is the AppView, as namespace/name, whose default hold this is.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	IsDefaultFor string `json:"isDefaultFor,omitempty"`
}

// HealthState of a hold.
// +kubebuilder:validation:Enum=Healthy;Unhealthy;Unknown
type HealthState string

const (
	Healthy   HealthState = "Healthy"
	Unhealthy HealthState = "Unhealthy"
	Unknown   HealthState = "Unknown"
)

// HealthStatus is written when the state changes and every ten minutes; finer values are metrics.
type HealthStatus struct {
	// state of the hold.
	// +optional
	State HealthState `json:"state,omitempty"`
	// since when the state is what it is.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// lastProbeTime is when the hold was last asked, as of the last write.
	// +optional
	LastProbeTime *metav1.Time `json:"lastProbeTime,omitempty"`
	// consecutiveFailures when last written.
	// +optional
	ConsecutiveFailures int32 `json:"consecutiveFailures,omitempty"`
	// latencyMillis of the last check, rounded up to 5 ms.
	// +optional
	LatencyMillis int64 `json:"latencyMillis,omitempty"`
}
