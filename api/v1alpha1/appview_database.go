package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Database of the server.
type Database struct {
	// Type: SQLite (default), one file on a claim.
	// +optional
	Type DatabaseType `json:"type,omitempty"`

	// SQLite settings.
	// +optional
	SQLite SQLite `json:"sqlite,omitempty,omitzero"`
}

// DatabaseType is a kind of database.
// +kubebuilder:validation:Enum=SQLite
type DatabaseType string

// DatabaseSQLite is one file with one writer.
const DatabaseSQLite DatabaseType = "SQLite"

// SQLite is one file on a claim, mounted by one pod.
// +kubebuilder:validation:XValidation:rule="!has(self.existingClaim) || (!has(self.size) && !has(self.storageClassName) && !has(self.accessMode))",message="size, storageClassName and accessMode belong to the claim that the operator makes: leave them out with existingClaim"
type SQLite struct {
	// Size of the claim; it may grow, never shrink. Default: 1Gi.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",message="size may only grow"
	Size *resource.Quantity `json:"size,omitempty"`

	// StorageClassName of the claim, immutable. Default: the cluster's default class.
	// +optional
	StorageClassName ObjectName `json:"storageClassName,omitempty"`

	// AccessMode of the claim, immutable: ReadWriteOnce (default) or ReadWriteOncePod.
	// +optional
	// +kubebuilder:validation:Enum=ReadWriteOnce;ReadWriteOncePod
	AccessMode corev1.PersistentVolumeAccessMode `json:"accessMode,omitempty"`

	// ExistingClaim is a claim of yours, in the same namespace, used instead of one that the operator makes. It is
	// never deleted. Data is not moved from one claim to another.
	// +optional
	ExistingClaim ObjectName `json:"existingClaim,omitempty"`
}
