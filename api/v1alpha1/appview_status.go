package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AppViewStatus is what the operator sees. It is a mirror: losing it loses nothing.
type AppViewStatus struct {
	// observedGeneration is the generation that the conditions speak of; -1 before the first look.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, Reconciling, Stalled, Accepted, KeysReady, DatabaseReady, DefaultHoldResolved, Available,
	// Exposed, ClusterPullReady, HoldsHealthy, BackupCurrent, Monitored.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// url that the server runs under.
	// +optional
	// +kubebuilder:validation:MaxLength=300
	URL string `json:"url,omitempty"`

	// image that was asked for in the Deployment.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// version is the tag or digest of the image.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`

	// selector of the server's pods, for the scale subresource.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Selector string `json:"selector,omitempty"`

	// replicas that exist.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// readyReplicas that answer.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas,omitempty"`

	// updatedReplicas that run the current pod template.
	// +optional
	UpdatedReplicas int32 `json:"updatedReplicas,omitempty"`

	// defaultHold that the servers are told.
	// +optional
	DefaultHold *DefaultHoldStatus `json:"defaultHold,omitempty"`

	// holds counts the HoldLinks.
	// +optional
	Holds HoldCounts `json:"holds,omitempty,omitzero"`

	// holdSummary is healthy/accepted, for example 2/3.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	HoldSummary string `json:"holdSummary,omitempty"`

	// links are the HoldLinks whose holds every server runs with, by namespace and name. An AppView takes 128.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=128
	Links []LinkStatus `json:"links,omitempty"`

	// keys of the server.
	// +optional
	Keys KeysStatus `json:"keys,omitempty,omitzero"`

	// endpoints that the server can be reached under besides the URL, the first 32.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	// nodeConfigMap is the ConfigMap with files for container runtimes, with spec.clusterPull.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	NodeConfigMap string `json:"nodeConfigMap,omitempty"`

	// pullSecrets that were copied, with spec.clusterPull.pullSecrets.
	// +optional
	PullSecrets *PullSecretsStatus `json:"pullSecrets,omitempty"`

	// secretExpirations are when certificates in Secrets that the spec names end, by Secret.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	SecretExpirations []SecretExpiration `json:"secretExpirations,omitempty"`

	// failedImage is the spec.image that was tried and cannot replace the server, with SQLite, until one can or it is no
	// longer asked for.
	// +optional
	FailedImage *FailedImage `json:"failedImage,omitempty"`

	// database in use.
	// +optional
	Database DatabaseStatus `json:"database,omitempty,omitzero"`

	// lastHandledReconcileAt is the newest operator.atcr.io/reconcile annotation that was acted on.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
}

// DefaultHoldSource says how the default hold was chosen.
// +kubebuilder:validation:Enum=Explicit;OnlyLink;LastKnown
type DefaultHoldSource string

const (
	DefaultHoldExplicit  DefaultHoldSource = "Explicit"
	DefaultHoldOnlyLink  DefaultHoldSource = "OnlyLink"
	DefaultHoldLastKnown DefaultHoldSource = "LastKnown"
)

// DefaultHoldStatus is the default hold that the servers are told.
type DefaultHoldStatus struct {
	// did of the hold.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=270
	DID string `json:"did,omitempty"`

	// source is Explicit (spec.defaultHold), OnlyLink, or LastKnown while the choice is not clear.
	// +required
	Source DefaultHoldSource `json:"source,omitempty"`

	// holdLink behind it as namespace/name, if any.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	HoldLink string `json:"holdLink,omitempty"`
}

// HoldCounts counts the HoldLinks that name this AppView.
type HoldCounts struct {
	// linked is how many name this AppView.
	// +optional
	Linked int32 `json:"linked,omitempty"`
	// accepted is how many of them this AppView admits.
	// +optional
	Accepted int32 `json:"accepted,omitempty"`
	// healthy is how many of those answer.
	// +optional
	Healthy int32 `json:"healthy,omitempty"`
}

// LinkStatus is one hold that every server runs with.
type LinkStatus struct {
	// namespace of the HoldLink.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// name of the HoldLink.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
	// did of the hold.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=270
	DID string `json:"did,omitempty"`
	// observedGeneration of the HoldLink is the one that the servers run with.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// health of the hold.
	// +optional
	Health HealthState `json:"health,omitempty"`
	// since when the health is what it is.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// KeysStatus names the server's keys.
type KeysStatus struct {
	// signing key of registry tokens.
	// +optional
	Signing SigningKeyStatus `json:"signing,omitempty,omitzero"`

	// oauthClient key.
	// +optional
	OAuthClient OAuthKeyStatus `json:"oauthClient,omitempty,omitzero"`
}

// SigningKeyStatus names the keys that sign and verify. The Secret is the truth.
type SigningKeyStatus struct {
	// current key: it signs.
	// +optional
	Current *KeyStatus `json:"current,omitempty"`

	// next key: servers know it, and it signs after the current one.
	// +optional
	Next *KeyStatus `json:"next,omitempty"`

	// retired keys: they verify until the tokens that they signed are over.
	// +optional
	// +listType=map
	// +listMapKey=kid
	// +kubebuilder:validation:MaxItems=32
	Retired []RetiredKeyStatus `json:"retired,omitempty"`

	// lastRotationTime is when the current key began to sign.
	// +optional
	LastRotationTime *metav1.Time `json:"lastRotationTime,omitempty"`

	// nextRotationTime is when the next key is due to sign; absent when only you decide.
	// +optional
	NextRotationTime *metav1.Time `json:"nextRotationTime,omitempty"`

	// lastRequest is the newest operator.atcr.io/rotate annotation that was carried out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	LastRequest string `json:"lastRequest,omitempty"`
}

// OAuthKeyStatus names the keys of the OAuth client. The Secret is the truth.
type OAuthKeyStatus struct {
	// current key: new sessions begin with it.
	// +optional
	Current *KeyStatus `json:"current,omitempty"`

	// retired keys: sessions that began with them go on.
	// +optional
	// +listType=map
	// +listMapKey=kid
	// +kubebuilder:validation:MaxItems=32
	Retired []RetiredKeyStatus `json:"retired,omitempty"`

	// lastRequest is the newest operator.atcr.io/rotate-oauth annotation that was carried out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	LastRequest string `json:"lastRequest,omitempty"`
}

// KeyStatus names one key.
type KeyStatus struct {
	// kid is the key's id: its RFC 7638 thumbprint.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Kid string `json:"kid,omitempty"`
	// algorithm of the key.
	// +optional
	Algorithm KeyAlgorithm `json:"algorithm,omitempty"`
	// secretName is where the key is.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
	// notAfter is when a provided key's certificate expires.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// RetiredKeyStatus names a key that signs no more.
type RetiredKeyStatus struct {
	// kid is the key's id.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Kid string `json:"kid,omitempty"`
	// until when it stays; absent while a server may still use it.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
}

// EndpointType is a kind of endpoint.
// +kubebuilder:validation:Enum=Hostname;ClusterIP;NodePort;LoadBalancer
type EndpointType string

const (
	EndpointHostname     EndpointType = "Hostname"
	EndpointClusterIP    EndpointType = "ClusterIP"
	EndpointNodePort     EndpointType = "NodePort"
	EndpointLoadBalancer EndpointType = "LoadBalancer"
)

// Endpoint is where the server can be reached.
type Endpoint struct {
	// type of the endpoint.
	// +required
	Type EndpointType `json:"type,omitempty"`
	// value is host:port, or a port on every node for NodePort.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=300
	Value string `json:"value,omitempty"`
}

// PullSecretsStatus counts the copies.
type PullSecretsStatus struct {
	// namespaces that have a copy, how many.
	// +optional
	Namespaces int32 `json:"namespaces,omitempty"`
}

// SecretExpiration says when the certificate in a Secret ends.
type SecretExpiration struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
	// notAfter is when the certificate ends.
	// +required
	NotAfter metav1.Time `json:"notAfter,omitempty"`
}

// FailedImage is an image that was tried in a pod of its own.
type FailedImage struct {
	// image that was tried.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
	// reason as in condition Available.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// message as in condition Available.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`
}

// DatabaseStatus is the database in use.
type DatabaseStatus struct {
	// type of the database.
	// +optional
	Type DatabaseType `json:"type,omitempty"`
	// claimName is the claim that the SQLite file is on.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ClaimName string `json:"claimName,omitempty"`
	// bytes of the SQLite file in steps of 16 MiB, as the server said last. It is asked every ten minutes.
	// +optional
	Bytes int64 `json:"bytes,omitempty"`
	// schema is the version of the SQLite file's tables, as the server said last. An image that does not know it does not
	// take the server's place.
	// +optional
	Schema int64 `json:"schema,omitempty"`
	// backupClaimName is the claim that its backups are on.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	BackupClaimName string `json:"backupClaimName,omitempty"`
	// lastBackupTime is when the newest backup was made, as the server said last.
	// +optional
	LastBackupTime *metav1.Time `json:"lastBackupTime,omitempty"`
}
