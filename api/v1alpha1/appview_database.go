package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Database of the server. A change of type leaves the old database as it is and begins with an empty one: data is not
// moved. Users log in again, and their records are read from their own servers again.
//
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type != 'None' || !has(self.sqlite) || !has(self.sqlite.backup)",message="sqlite.backup must be left out with type: None, which keeps nothing that a backup could bring back"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'PostgreSQL') == has(self.postgresql)",message="postgresql is needed with type: PostgreSQL, and only then"
type Database struct {
	// type is SQLite (default), one file on a claim, for one replica; PostgreSQL, which replicas share; or None, for one
	// replica that begins empty whenever its pod is replaced.
	// +optional
	Type DatabaseType `json:"type,omitempty"`

	// sqlite settings. With another type they say nothing, and may stay, but for backup with None.
	// +optional
	SQLite SQLite `json:"sqlite,omitempty,omitzero"`

	// postgresql settings, with type PostgreSQL.
	// +optional
	PostgreSQL *PostgreSQL `json:"postgresql,omitempty"`
}

// DatabaseType is a kind of database.
// +kubebuilder:validation:Enum=SQLite;PostgreSQL;None
type DatabaseType string

const (
	// DatabaseSQLite is one file with one writer.
	DatabaseSQLite DatabaseType = "SQLite"
	// DatabasePostgreSQL is a server that replicas share.
	DatabasePostgreSQL DatabaseType = "PostgreSQL"
	// DatabaseNone is a file that goes with its pod.
	DatabaseNone DatabaseType = "None"
)

// PostgreSQL is a database that somebody else runs, version 13 or newer. The operator never connects to it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.caSecretRef) || !has(self.sslMode) || self.sslMode in ['verify-ca', 'verify-full']",message="caSecretRef needs sslMode verify-ca or verify-full: the other modes do not look at the certificate"
type PostgreSQL struct {
	// secretRef names the Secret that says where the database is and who asks. The application Secret of a CloudNativePG
	// cluster, NAME-app, needs nothing else.
	// +required
	SecretRef DatabaseSecretReference `json:"secretRef,omitzero"`

	// sslMode as libpq means it: disable, allow, prefer, require, verify-ca or verify-full. Default: what the URI says;
	// verify-full with caSecretRef; else prefer.
	// +optional
	SSLMode SSLMode `json:"sslMode,omitempty"`

	// caSecretRef names the Secret with the certificates that the database's own is verified with, in PEM. Default: those
	// of the server's image.
	// +optional
	CASecretRef *CASecretReference `json:"caSecretRef,omitempty"`

	// pool of connections of one replica.
	// +optional
	Pool DatabasePool `json:"pool,omitempty,omitzero"`
}

// SSLMode is a way to use TLS, in the words of libpq.
// +kubebuilder:validation:Enum=disable;allow;prefer;require;verify-ca;verify-full
type SSLMode string

// SSLVerifyFull verifies the certificate and the host name in it.
const SSLVerifyFull SSLMode = "verify-full"

// DatabaseSecretReference names a Secret in the AppView's namespace. It is mounted: a changed user or password is used
// by the next connection, without a restart. Label the Secret operator.atcr.io/watch=true to have other changes seen at
// once; else it is read every ten minutes.
type DatabaseSecretReference struct {
	// name of the Secret.
	// +required
	Name ObjectName `json:"name,omitempty"`

	// keys are the entries to read.
	// +optional
	Keys DatabaseSecretKeys `json:"keys,omitempty,omitzero"`
}

// DatabaseSecretKeys are entries of a Secret: the URI, or its parts. When there is a URI, the parts are not read.
type DatabaseSecretKeys struct {
	// uri is the entry with postgres://user:password@host:port/database. Default: uri.
	// +optional
	URI SecretKey `json:"uri,omitempty"`

	// host is the entry with the host. Default: host.
	// +optional
	Host SecretKey `json:"host,omitempty"`

	// port is the entry with the port; without one the port is 5432. Default: port.
	// +optional
	Port SecretKey `json:"port,omitempty"`

	// dbname is the entry with the name of the database. Default: dbname.
	// +optional
	DBName SecretKey `json:"dbname,omitempty"`

	// username is the entry with the user. Default: username.
	// +optional
	Username SecretKey `json:"username,omitempty"`

	// password is the entry with the password. Default: password.
	// +optional
	Password SecretKey `json:"password,omitempty"`
}

// CASecretReference names a Secret with certificates, in the namespace of the object that names it.
type CASecretReference struct {
	// name of the Secret; of a CloudNativePG cluster it is NAME-ca.
	// +required
	Name ObjectName `json:"name,omitempty"`

	// key is the entry. Default: ca.crt.
	// +optional
	Key SecretKey `json:"key,omitempty"`
}

// DatabasePool bounds the connections of one replica. During a rollout there is one replica more.
// +kubebuilder:validation:XValidation:rule="!has(self.maxIdle) || !has(self.maxOpen) || self.maxIdle <= self.maxOpen",message="maxIdle must not be more than maxOpen"
type DatabasePool struct {
	// maxOpen connections. Default: four for each processor, 10 or more.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=1000
	MaxOpen int32 `json:"maxOpen,omitempty"`

	// maxIdle is how many stay open unused. Default: as many as were opened, for half an hour.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxIdle int32 `json:"maxIdle,omitempty"`
}

// SQLite is one file on a claim, mounted by one pod.
// +kubebuilder:validation:XValidation:rule="!has(self.existingClaim) || (!has(self.size) && !has(self.storageClassName) && !has(self.accessMode))",message="size, storageClassName and accessMode belong to the claim that the operator makes: leave them out with existingClaim"
type SQLite struct {
	// size of the claim; it may grow, never shrink. Default: 1Gi, or what the claim has already.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",message="size may only grow"
	Size *resource.Quantity `json:"size,omitempty"`

	// storageClassName of the claim, immutable. Default: the cluster's default class.
	// +optional
	StorageClassName ObjectName `json:"storageClassName,omitempty"`

	// accessMode of the claim, immutable: ReadWriteOnce (default) or ReadWriteOncePod.
	// +optional
	// +kubebuilder:validation:Enum=ReadWriteOnce;ReadWriteOncePod
	AccessMode corev1.PersistentVolumeAccessMode `json:"accessMode,omitempty"`

	// existingClaim is a claim of yours, in the same namespace, used instead of one that the operator makes. It is
	// never deleted. Data is not moved from one claim to another.
	// +optional
	ExistingClaim ObjectName `json:"existingClaim,omitempty"`

	// backup has the running server copy the file on a schedule. Default: no backups.
	// +optional
	Backup *Backup `json:"backup,omitempty"`
}
