package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AppView is a registry server: it speaks the OCI Distribution API, keeps manifests in its users' own Personal Data
// Servers and blobs in holds. Attach holds with HoldLink objects.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=apv,categories=atcr
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Default Hold",type=string,JSONPath=`.status.defaultHold.did`
// +kubebuilder:printcolumn:name="Holds",type=string,JSONPath=`.status.holdSummary`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Key Rotation",type=string,priority=1,JSONPath=`.status.keys.signing.nextRotationTime`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52",message="metadata.name names the Service too: at most 52 lower-case letters, digits and hyphens, a letter first"
type AppView struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is Kubernetes' own.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what you ask for. Everything is optional: an empty spec with one HoldLink is a registry inside the cluster.
	// +optional
	// +default={}
	Spec AppViewSpec `json:"spec,omitempty,omitzero"`

	// status is what the operator sees.
	// +optional
	// +default={"observedGeneration":-1}
	Status AppViewStatus `json:"status,omitempty,omitzero"`
}

// AppViewList is a list of AppViews.
// +kubebuilder:object:root=true
type AppViewList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AppView `json:"items"`
}

// AppViewSpec is what you ask for. Everything is optional: an empty spec with one HoldLink is a registry inside the
// cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.serviceName) || (has(self.serviceName) && self.serviceName == oldSelf.serviceName)",message="serviceName is immutable once set: tokens name it"
// +kubebuilder:validation:XValidation:rule="!has(self.baseURL) || !self.baseURL.startsWith('http://') || (has(self.insecure) && self.insecure == 'Allowed') || self.baseURL.matches('^http://(localhost|127[.][0-9.]+|[^.:/]+|[^:/]+[.](local|localhost|internal|test)|[^:/]+[.]svc([.][^:/]+)?)(:[0-9]+)?$')",message="baseURL must be https for a public host: use https, or set insecure: Allowed if passwords may cross the network in clear"
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || !has(self.exposure.tls) || !has(self.baseURL) || !self.baseURL.startsWith('http://')",message="baseURL must be https with exposure.tls: the server speaks HTTPS only"
// +kubebuilder:validation:XValidation:rule="!has(self.clusterPull) || !has(self.clusterPull.endpoint) || self.clusterPull.endpoint != 'NodePort' || (has(self.exposure) && has(self.exposure.service) && has(self.exposure.service.type) && self.exposure.service.type in ['NodePort','LoadBalancer'])",message="clusterPull.endpoint NodePort needs exposure.service.type NodePort or LoadBalancer"
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || self.replicas <= 1 || (has(self.database) && has(self.database.type) && self.database.type == 'PostgreSQL')",message="replicas must be 0 or 1 without a database that replicas share: several need database.type PostgreSQL"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || (has(self.database) && has(self.database.type) && self.database.type == 'PostgreSQL')",message="autoscaling needs database.type PostgreSQL, which replicas share"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || (has(self.podTemplate) && has(self.podTemplate.resources) && ((has(self.podTemplate.resources.requests) && 'cpu' in self.podTemplate.resources.requests) || (has(self.podTemplate.resources.limits) && 'cpu' in self.podTemplate.resources.limits)))",message="autoscaling needs podTemplate.resources.requests.cpu: targetCPU is a part of it"
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.sqlite) && has(self.database.sqlite.existingClaim)) || (has(oldSelf.database) && has(oldSelf.database.sqlite) && has(oldSelf.database.sqlite.existingClaim)) || (has(self.database) && has(self.database.sqlite) && has(self.database.sqlite.storageClassName) ? self.database.sqlite.storageClassName : '-') == (has(oldSelf.database) && has(oldSelf.database.sqlite) && has(oldSelf.database.sqlite.storageClassName) ? oldSelf.database.sqlite.storageClassName : '-')",message="database.sqlite.storageClassName is immutable: a claim cannot change its class; create a claim and name it in existingClaim"
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.sqlite) && has(self.database.sqlite.existingClaim)) || (has(oldSelf.database) && has(oldSelf.database.sqlite) && has(oldSelf.database.sqlite.existingClaim)) || (has(self.database) && has(self.database.sqlite) && has(self.database.sqlite.accessMode) ? self.database.sqlite.accessMode : 'ReadWriteOnce') == (has(oldSelf.database) && has(oldSelf.database.sqlite) && has(oldSelf.database.sqlite.accessMode) ? oldSelf.database.sqlite.accessMode : 'ReadWriteOnce')",message="database.sqlite.accessMode is immutable: a claim cannot change it; create a claim and name it in existingClaim"
type AppViewSpec struct {
	// image of the server. Default: the image that this operator was released with. A digest is allowed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// imagePullSecrets of the server's own pods.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	ImagePullSecrets []LocalReference `json:"imagePullSecrets,omitempty"`

	// baseURL is what clients reach the registry under, for example https://registry.example.com: token realm, OAuth
	// redirects. No path. Default: the Service's name in the cluster, http://NAME.NAMESPACE.svc.DOMAIN:PORT.
	// +optional
	BaseURL Origin `json:"baseURL,omitempty"`

	// insecure allows an http baseURL for a host that is not local. Default: Refused.
	// +optional
	Insecure InsecurePolicy `json:"insecure,omitempty"`

	// serviceName is the issuer and service of registry tokens. Immutable once set. Default: the host of the first
	// baseURL, which it stays.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$`
	ServiceName string `json:"serviceName,omitempty"`

	// replicas of the server, 0 or 1 without PostgreSQL. Default: 1, written by the API server: kubectl scale needs the field.
	// With autoscaling, the autoscaler writes it: leave it out of what you apply.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling of replicas by CPU, with PostgreSQL. Default: none.
	// +optional
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`

	// defaultHold serves users whose profile names no hold. Default: the only accepted HoldLink of role Candidate.
	// +optional
	DefaultHold *DefaultHold `json:"defaultHold,omitempty"`

	// holdLinks says which HoldLinks may attach.
	// +optional
	HoldLinks HoldLinkPolicy `json:"holdLinks,omitempty,omitzero"`

	// keys of the server.
	// +optional
	Keys Keys `json:"keys,omitempty,omitzero"`

	// tokens that the server issues.
	// +optional
	Tokens Tokens `json:"tokens,omitempty,omitzero"`

	// database of the server: sessions, devices, and the mirror of its users' records.
	// +optional
	Database Database `json:"database,omitempty,omitzero"`

	// logging of the server.
	// +optional
	Logging Logging `json:"logging,omitempty,omitzero"`

	// exposure says how clients reach the server.
	// +optional
	Exposure Exposure `json:"exposure,omitempty,omitzero"`

	// clusterPull helps the nodes of this cluster pull: files for their container runtimes, in ConfigMap NAME-node-config.
	// An empty object asks for the defaults. Default: nothing is made.
	// +optional
	ClusterPull *ClusterPull `json:"clusterPull,omitempty"`

	// network says which private addresses the server may call when a record, a DID document or a user names them.
	// Default: none. Endpoints of HoldLinks need no entry.
	// +optional
	Network Network `json:"network,omitempty,omitzero"`

	// networkPolicy for the server's pods.
	// +optional
	NetworkPolicy NetworkPolicy `json:"networkPolicy,omitempty,omitzero"`

	// allowedHosts are further Host values, host or host:port, that clients may use: the token realm follows them. The
	// Service's names, its cluster IP and its node port on localhost are allowed without being listed.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	AllowedHosts []Host `json:"allowedHosts,omitempty"`

	// identity says where handles and DIDs are looked up.
	// +optional
	Identity Identity `json:"identity,omitempty,omitzero"`

	// availability of the server while nodes are drained or lost, with several replicas.
	// +optional
	Availability Availability `json:"availability,omitempty,omitzero"`

	// monitoring of the server.
	// +optional
	Monitoring Monitoring `json:"monitoring,omitempty,omitzero"`

	// podTemplate adds to the server's pods. Whoever may write it may run a pod with these settings, under the restricted
	// Pod Security profile, which is applied on top and cannot be loosened.
	// +optional
	PodTemplate PodTemplate `json:"podTemplate,omitempty,omitzero"`

	// inheritedMetadata is put on every object that the operator makes for this AppView.
	// +optional
	InheritedMetadata Metadata `json:"inheritedMetadata,omitempty,omitzero"`

	// deletionPolicy says what becomes of data and keys when this AppView is deleted.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty,omitzero"`

	// reconciliation Suspended leaves everything as it is until Active. Deletion still works. Default: Active.
	// +optional
	Reconciliation Reconciliation `json:"reconciliation,omitempty"`

	// development allows plain HTTP to loopback and single-label hosts for identity. Never in production.
	// Default: Disabled.
	// +optional
	Development Switch `json:"development,omitempty"`
}

// InsecurePolicy says whether clients may use plain HTTP on a host that is not local.
// +kubebuilder:validation:Enum=Refused;Allowed
type InsecurePolicy string

const (
	InsecureRefused InsecurePolicy = "Refused"
	InsecureAllowed InsecurePolicy = "Allowed"
)

// Host is a host name or address with an optional port, as a client sends it in Host.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=260
// +kubebuilder:validation:Pattern=`^([a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`
type Host string

// DefaultHold names a hold in one of two ways.
// +kubebuilder:validation:ExactlyOneOf=holdLinkRef;did
type DefaultHold struct {
	// holdLinkRef names a HoldLink that this AppView accepts.
	// +optional
	HoldLinkRef *HoldLinkReference `json:"holdLinkRef,omitempty"`

	// did of a hold that needs no HoldLink: the server finds its endpoint in its DID document.
	// +optional
	DID DID `json:"did,omitempty"`
}

// HoldLinkReference names a HoldLink.
type HoldLinkReference struct {
	// name of the HoldLink.
	// +required
	Name ObjectName `json:"name,omitempty"`

	// namespace of the HoldLink. Default: the AppView's.
	// +optional
	Namespace NamespaceName `json:"namespace,omitempty"`
}

// HoldLinkPolicy is the AppView's side of the handshake: a HoldLink asks with appViewRef, the AppView admits.
type HoldLinkPolicy struct {
	// allowedNamespaces are where HoldLinks may come from. Default: the AppView's own namespace.
	// +optional
	AllowedNamespaces AllowedNamespaces `json:"allowedNamespaces,omitempty,omitzero"`
}

// AllowedNamespaces has the shape of the Gateway API's RouteNamespaces.
// +kubebuilder:validation:XValidation:rule="(has(self.from) && self.from == 'Selector') == has(self.selector)",message="selector is needed with from: Selector, and only then"
type AllowedNamespaces struct {
	// from is Same (default), All, or Selector.
	// +optional
	From FromNamespaces `json:"from,omitempty"`

	// selector of namespaces by their labels, with from: Selector.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// FromNamespaces says which namespaces are meant.
// +kubebuilder:validation:Enum=Same;All;Selector
type FromNamespaces string

const (
	FromSame     FromNamespaces = "Same"
	FromAll      FromNamespaces = "All"
	FromSelector FromNamespaces = "Selector"
)

// Tokens that the server issues.
type Tokens struct {
	// expiration of a registry token, 60s to 1h, whole seconds. Default: 5m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('60s') && duration(self) <= duration('1h')",message="expiration must be between 60s and 1h"
	// +kubebuilder:validation:XValidation:rule="duration(self).getMilliseconds() % 1000 == 0",message="expiration must be whole seconds"
	Expiration Duration `json:"expiration,omitempty"`
}

// Logging of the server.
type Logging struct {
	// level is debug, info (default), warn or error.
	// +optional
	// +kubebuilder:validation:Enum=debug;info;warn;error
	Level string `json:"level,omitempty"`

	// format is json (default) or text.
	// +optional
	// +kubebuilder:validation:Enum=json;text
	Format string `json:"format,omitempty"`

	// access says which requests have a line at level info: all (default), errors, those of status 400 and above, or off.
	// +optional
	// +kubebuilder:validation:Enum=all;errors;off
	Access string `json:"access,omitempty"`
}

// Network says which private addresses the server may call when a record, a DID document or a user names them.
// Endpoints of HoldLinks need no entry.
type Network struct {
	// allowedPrivateCIDRs are private ranges, for example 10.0.0.0/8. Default: none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	AllowedPrivateCIDRs []CIDR `json:"allowedPrivateCIDRs,omitempty"`

	// allowedPrivatePorts are the ports, besides 80 and 443, that may be called there. Default: any.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	AllowedPrivatePorts []int32 `json:"allowedPrivatePorts,omitempty"`
}

// CIDR is a range of addresses.
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a range of addresses such as 10.0.0.0/8"
type CIDR string

// Identity says where handles and DIDs are looked up.
type Identity struct {
	// plcURL is the PLC directory. Default: https://plc.directory.
	// +optional
	PLCURL Origin `json:"plcURL,omitempty"`

	// handleResolverURL is a service that answers com.atproto.identity.resolveHandle, asked before DNS and well-known.
	// Default: none.
	// +optional
	HandleResolverURL Origin `json:"handleResolverURL,omitempty"`
}

// DeletionPolicy says what becomes of what cannot be made again.
type DeletionPolicy struct {
	// data says what becomes of the database's claim. Default: Retain.
	// +optional
	Data Policy `json:"data,omitempty"`

	// keys says what becomes of the Secrets with keys, NAME-signing, NAME-signing-next, NAME-oauth, NAME-did and NAME-sealing. Default: Retain.
	// +optional
	Keys Policy `json:"keys,omitempty"`
}
