package v1alpha1

// Keys of the server.
type Keys struct {
	// signing key of registry tokens, in the Secret NAME-signing. Servers load a changed key without a restart.
	// +optional
	Signing SigningKey `json:"signing,omitempty,omitzero"`

	// oauthClient key, in the Secret NAME-oauth: it proves to users' servers who this AppView is. Sessions are bound to
	// the key that they began with.
	// +optional
	OAuthClient OAuthClientKey `json:"oauthClient,omitempty,omitzero"`
}

// SigningKey says where the key comes from and when it changes. Whatever the source, servers know a key before it
// signs and verify with it until its last token is over.
//
// +kubebuilder:validation:XValidation:rule="(has(self.source) && self.source == 'SecretRef') == has(self.secretRef)",message="secretRef is needed with source: SecretRef, and only then"
// +kubebuilder:validation:XValidation:rule="(has(self.source) && self.source == 'CertManager') == has(self.certManager)",message="certManager is needed with source: CertManager, and only then"
// +kubebuilder:validation:XValidation:rule="!has(self.rotation) || !has(self.rotation.interval) || !has(self.source) || self.source == 'Generated'",message="rotation.interval is for generated keys: a provided key changes when its source does"
type SigningKey struct {
	// source is Generated (default), the operator makes keys; SecretRef, a Secret of yours; CertManager, a Certificate that
	// the operator asks cert-manager for. A provided key is copied, never mounted: replace it at any time.
	// +optional
	Source KeySource `json:"source,omitempty"`

	// algorithm of keys that are made: ES256 (default) or RS256 (2048 bits), which costs the server 20 times more per
	// token. A change rotates the key.
	// +optional
	Algorithm KeyAlgorithm `json:"algorithm,omitempty"`

	// rotation of generated keys. Whatever it says, annotating the AppView with operator.atcr.io/rotate=ID rotates once for
	// every new ID.
	// +optional
	Rotation KeyRotation `json:"rotation,omitempty,omitzero"`

	// secretRef names the Secret with your key, with source SecretRef.
	// +optional
	SecretRef *KeySecretReference `json:"secretRef,omitempty"`

	// certManager asks for a Certificate, with source CertManager.
	// +optional
	CertManager *CertManagerKey `json:"certManager,omitempty"`
}

// KeySource says who makes a key.
// +kubebuilder:validation:Enum=Generated;SecretRef;CertManager
type KeySource string

const (
	KeyGenerated   KeySource = "Generated"
	KeySecretRef   KeySource = "SecretRef"
	KeyCertManager KeySource = "CertManager"
)

// KeyAlgorithm is a JWS algorithm (RFC 7518 section 3.1).
// +kubebuilder:validation:Enum=ES256;RS256
type KeyAlgorithm string

const (
	ES256 KeyAlgorithm = "ES256"
	RS256 KeyAlgorithm = "RS256"
)

// RotationMode says what makes a key change.
// +kubebuilder:validation:Enum=Scheduled;Manual
type RotationMode string

const (
	RotationScheduled RotationMode = "Scheduled"
	RotationManual    RotationMode = "Manual"
)

// KeyRotation says when a generated key changes. Whatever the mode, annotating the AppView with
// operator.atcr.io/rotate=ID rotates once for every new ID; an ID that begins with revoke- takes the current key and
// every earlier one away at once, and clients log in again.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || !has(self.mode) || self.mode == 'Scheduled'",message="interval is for mode Scheduled"
type KeyRotation struct {
	// mode is Scheduled (default), every interval; or Manual.
	// +optional
	Mode RotationMode `json:"mode,omitempty"`

	// interval that a key signs for, 24h or more, in hours. Default: 2160h, 90 days.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('24h') && duration(self) <= duration('87600h')",message="interval must be between 24h and 87600h, ten years"
	Interval Duration `json:"interval,omitempty"`
}

// KeySecretReference names a Secret with a key, in the AppView's namespace. Label the Secret operator.atcr.io/watch=true
// to have changes seen at once; else it is read every ten minutes.
type KeySecretReference struct {
	// name of the Secret.
	// +required
	Name ObjectName `json:"name,omitempty"`

	// keyKey is the entry with the private key: EC P-256, or RSA of 2048 bits or more, in PEM. Default: tls.key.
	// +optional
	KeyKey SecretKey `json:"keyKey,omitempty"`

	// certKey is the entry with its certificate, in PEM; the first one counts. Default: tls.crt where there is such an
	// entry, else a certificate is made.
	// +optional
	CertKey SecretKey `json:"certKey,omitempty"`
}

// SecretKey is an entry of a Secret.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
type SecretKey string

// CertManagerKey is a Certificate called NAME-signing-source, with a new private key at each renewal.
type CertManagerKey struct {
	// issuerRef names the issuer.
	// +required
	IssuerRef IssuerReference `json:"issuerRef,omitzero"`

	// duration of the certificate, 24h or more. Default: 2160h, 90 days.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('24h') && duration(self) <= duration('87600h')",message="duration must be between 24h and 87600h, ten years"
	Duration Duration `json:"duration,omitempty"`
}

// IssuerReference names a cert-manager issuer.
type IssuerReference struct {
	// name of the issuer.
	// +required
	Name ObjectName `json:"name,omitempty"`

	// kind is Issuer (default), ClusterIssuer, or a kind of another group.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z0-9]*$`
	Kind string `json:"kind,omitempty"`

	// group of the issuer. Default: cert-manager.io.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Group string `json:"group,omitempty"`
}

// OAuthClientKey says where the key comes from and when it changes. It changes the other way around from a signing key: a
// retired key stays, with its private half, until the sessions that began with it are over.
//
// +kubebuilder:validation:XValidation:rule="(has(self.source) && self.source == 'SecretRef') == has(self.secretRef)",message="secretRef is needed with source: SecretRef, and only then"
// +kubebuilder:validation:XValidation:rule="!has(self.source) || self.source != 'CertManager'",message="source is Generated or SecretRef: sessions are bound to this key, and each renewal would bring another"
type OAuthClientKey struct {
	// source is Generated (default) or SecretRef.
	// +optional
	Source KeySource `json:"source,omitempty"`

	// secretRef names the Secret with your key, with source SecretRef: EC P-256.
	// +optional
	SecretRef *KeySecretReference `json:"secretRef,omitempty"`

	// rotation of the key. Whatever it says, annotating the AppView with operator.atcr.io/rotate-oauth=ID rotates once for
	// every new ID.
	// +optional
	Rotation OAuthKeyRotation `json:"rotation,omitempty,omitzero"`
}

// OAuthKeyRotation says when the key changes. Annotating the AppView with operator.atcr.io/rotate-oauth=ID rotates once for
// every new ID; an ID that begins with revoke- takes every earlier key away at once, and users log in again.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || (has(self.mode) && self.mode == 'Scheduled')",message="interval is for mode Scheduled"
type OAuthKeyRotation struct {
	// mode is Manual (default) or Scheduled.
	// +optional
	Mode RotationMode `json:"mode,omitempty"`

	// interval that a key is the newest for, 720h or more. Default with mode Scheduled: 8760h, a year.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('720h') && duration(self) <= duration('87600h')",message="interval must be between 720h and 87600h, ten years"
	Interval Duration `json:"interval,omitempty"`

	// retireAfter is how long a key stays after a newer one came: as long as a session may last. Default: 4320h, 180 days.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="retireAfter must be between 1h and 87600h, ten years"
	RetireAfter Duration `json:"retireAfter,omitempty"`
}
