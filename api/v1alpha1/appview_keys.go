package v1alpha1

// Keys of the server.
type Keys struct {
	// Signing key of registry tokens, in the Secret NAME-signing.
	// +optional
	Signing SigningKey `json:"signing,omitempty,omitzero"`
}

// SigningKey says where the key comes from.
type SigningKey struct {
	// Source: Generated (default). The operator makes the key once and never again while the Secret exists.
	// +optional
	Source KeySource `json:"source,omitempty"`

	// Algorithm: ES256 (default) or RS256 (2048 bits), which costs the server 20 times more per token.
	// +optional
	Algorithm KeyAlgorithm `json:"algorithm,omitempty"`
}

// KeySource says who makes a key.
// +kubebuilder:validation:Enum=Generated
type KeySource string

// KeyGenerated is a key that the operator makes.
const KeyGenerated KeySource = "Generated"

// KeyAlgorithm is a JWS algorithm (RFC 7518 section 3.1).
// +kubebuilder:validation:Enum=ES256;RS256
type KeyAlgorithm string

const (
	ES256 KeyAlgorithm = "ES256"
	RS256 KeyAlgorithm = "RS256"
)
