package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// Backup copies the SQLite file while the server runs: each copy is one moment of it, is checked, and is complete once it
// has its name. Condition BackupCurrent says how it goes; appview.md, how one is restored.
//
// +kubebuilder:validation:XValidation:rule="!has(self.claim) || !has(self.destination) || self.destination == 'Claim'",message="claim goes with destination Claim: DatabaseClaim is the claim of the database"
type Backup struct {
	// interval between two backups, 1m to 720h. Default: 24h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="interval must be between 1m and 720h"
	Interval Duration `json:"interval,omitempty"`

	// retention is how many backups are kept, the newest. Default: 7.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Retention int32 `json:"retention,omitempty"`

	// destination is Claim (default), a claim of their own, so that a lost volume does not take both; or DatabaseClaim, a
	// folder beside the database, which helps against mistakes only.
	// +optional
	Destination BackupDestination `json:"destination,omitempty"`

	// claim of the backups, with destination Claim.
	// +optional
	Claim BackupClaim `json:"claim,omitempty,omitzero"`
}

// BackupDestination is a place for backups.
// +kubebuilder:validation:Enum=Claim;DatabaseClaim
type BackupDestination string

const (
	// BackupToClaim keeps backups on a claim of their own.
	BackupToClaim BackupDestination = "Claim"
	// BackupToDatabaseClaim keeps them beside the database.
	BackupToDatabaseClaim BackupDestination = "DatabaseClaim"
)

// BackupClaim is the claim that backups are on. One that the operator makes, NAME-backup, goes with the AppView as
// deletionPolicy.data says.
//
// +kubebuilder:validation:XValidation:rule="!has(self.existingClaim) || (!has(self.size) && !has(self.storageClassName))",message="size and storageClassName belong to the claim that the operator makes: leave them out with existingClaim"
// +kubebuilder:validation:XValidation:rule="has(self.existingClaim) || has(oldSelf.existingClaim) || (has(self.storageClassName) ? self.storageClassName : '-') == (has(oldSelf.storageClassName) ? oldSelf.storageClassName : '-')",message="storageClassName is immutable: a claim cannot change its class; create a claim and name it in existingClaim"
type BackupClaim struct {
	// size of the claim; it may grow, never shrink. There must be room for one copy more than retention. Default: 1Gi.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",message="size may only grow"
	Size *resource.Quantity `json:"size,omitempty"`

	// storageClassName of the claim, immutable. Default: the cluster's default class.
	// +optional
	StorageClassName ObjectName `json:"storageClassName,omitempty"`

	// existingClaim is a claim of yours, in the same namespace, for example on storage of another kind or place. The node
	// that runs the server must be able to mount both. It is never deleted.
	// +optional
	ExistingClaim ObjectName `json:"existingClaim,omitempty"`
}

// Defaults of [Backup].
const (
	DefaultBackupInterval        = "24h"
	DefaultBackupRetention int32 = 7
)
