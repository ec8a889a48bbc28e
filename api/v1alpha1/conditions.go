package v1alpha1

// Conditions of both kinds, as kstatus reads them: Ready is the summary; Reconciling and Stalled are there only while
// true.
const (
	// ConditionReady: everything that was asked for is there and works. Its reason and message are those of the most
	// important condition that is not true. Health of holds is not part of it.
	ConditionReady = "Ready"

	// ConditionReconciling: the operator is on its way to what was asked for, by itself.
	ConditionReconciling = "Reconciling"

	// ConditionStalled: the operator cannot get there before you change something.
	ConditionStalled = "Stalled"

	// ConditionAccepted: the spec makes sense, and both sides of a link agree.
	ConditionAccepted = "Accepted"
)

// Reasons of Ready, Reconciling and Stalled.
const (
	// ReasonReady: all conditions that Ready sums up are true.
	ReasonReady = "Ready"
	// ReasonProgressing: work is going on.
	ReasonProgressing = "Progressing"
	// ReasonProgressingWithRetry: a request failed and is tried again, less and less often.
	ReasonProgressingWithRetry = "ProgressingWithRetry"
	// ReasonRollingOut: pods of an older template are being replaced.
	ReasonRollingOut = "RollingOut"
	// ReasonSuspended: spec.reconciliation is Suspended.
	ReasonSuspended = "Suspended"
	// ReasonInvalidSpec: a field has a value that cannot work.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonNotPermitted: somebody else's object is in the way, or the operator may not do what is asked.
	ReasonNotPermitted = "NotPermitted"
	// ReasonAccepted: of condition Accepted.
	ReasonAccepted = "Accepted"
)

// Conditions of an AppView.
const (
	// ConditionKeysReady: the Secrets that the server needs are there and right.
	ConditionKeysReady = "KeysReady"

	// ConditionDatabaseReady: the server has a place for its SQLite database, or reaches its PostgreSQL, or needs neither.
	ConditionDatabaseReady = "DatabaseReady"

	// ConditionDefaultHoldResolved: it is clear which hold serves users whose profile names none.
	ConditionDefaultHoldResolved = "DefaultHoldResolved"

	// ConditionAvailable: every replica runs the current pod template and is ready, and none of an older one is left.
	ConditionAvailable = "Available"

	// ConditionExposed: the Ingress or the HTTPRoute that the spec asks for is there, and its controller takes it; the
	// certificate of exposure.tls can be used. Part of Ready only when one of them is asked for.
	ConditionExposed = "Exposed"

	// ConditionClusterPullReady: what spec.clusterPull asks for is there. Only with it, and not part of Ready: whoever owns
	// another namespace can be in the way.
	ConditionClusterPullReady = "ClusterPullReady"

	// ConditionHoldsHealthy: the holds answer. Not part of Ready: a registry whose hold is down still serves manifests.
	ConditionHoldsHealthy = "HoldsHealthy"

	// ConditionBackupCurrent: the newest backup of the SQLite file is as new as spec.database.sqlite.backup asks. Not part
	// of Ready.
	ConditionBackupCurrent = "BackupCurrent"

	// ConditionMonitored: the ServiceMonitor that the spec asks for is there. Not part of Ready.
	ConditionMonitored = "Monitored"
)

// ReasonMonitored: of condition Monitored, besides ReasonNotRequested, ReasonCRDNotServed, ReasonNotPermitted and
// ReasonInvalidSpec.
const ReasonMonitored = "Monitored"

// Reasons of BackupCurrent, besides ReasonPending while the first backup is being made.
const (
	// ReasonCurrent: the newest backup is as new as it should be.
	ReasonCurrent = "Current"
	// ReasonOverdue: the newest backup is older than its interval and a quarter of it.
	ReasonOverdue = "Overdue"
	// ReasonFailed: the newest try failed, or the claim for backups cannot be used.
	ReasonFailed = "Failed"
	// ReasonNotConfigured: the spec asks for no backups, or the database is a PostgreSQL, which has its own, or none is kept.
	ReasonNotConfigured = "NotConfigured"
)

// Reasons of KeysReady.
const (
	// ReasonGenerated: the operator made the keys.
	ReasonGenerated = "Generated"
	// ReasonProvided: the signing key comes from a Secret of yours, or from cert-manager.
	ReasonProvided = "Provided"
	// ReasonRotating: the next key is on its way to the servers. The condition is true.
	ReasonRotating = "Rotating"
	// ReasonRevoking: a key was revoked, and the named pods have not loaded the keys without it.
	ReasonRevoking = "Revoking"
	// ReasonRevocationPending: a provided key is to be revoked, and its source has no other one yet.
	ReasonRevocationPending = "RevocationPending"
	// ReasonServersBehind: keys cannot change, since the named pods do not load the newest; or pods run with an earlier
	// runtime file.
	ReasonServersBehind = "ServersBehind"
	// ReasonExpiringSoon: a provided key's certificate ends within a week; of Exposed, the server's, within a week or the
	// last quarter of its life. The condition is true.
	ReasonExpiringSoon = "ExpiringSoon"
	// ReasonExpired: a provided key's certificate is over, and an earlier key goes on signing; of Exposed, the server's, and
	// the server goes on with it.
	ReasonExpired = "Expired"
	// ReasonSecretNotFound: the Secret that the spec names, or an entry of it, does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonKeyInvalid: the Secret's content cannot be used.
	ReasonKeyInvalid = "KeyInvalid"
	// ReasonKeyMismatch: a provided key and its certificate do not belong together. Of Exposed too.
	ReasonKeyMismatch = "KeyMismatch"
	// ReasonSecretNotOwned: a Secret of that name is not the operator's.
	ReasonSecretNotOwned = "SecretNotOwned"
)

// Reasons of KeysReady, Exposed and Monitored.
const (
	// ReasonCertificateNotReady: cert-manager has not issued the certificate yet.
	ReasonCertificateNotReady = "CertificateNotReady"
	// ReasonCRDNotServed: the cluster does not know the kind that the spec asks for.
	ReasonCRDNotServed = "CRDNotServed"
)

// Reasons of Exposed, besides ReasonAccepted, ReasonPending, ReasonNotPermitted and ReasonInvalidSpec.
const (
	// ReasonNotAccepted: a Gateway does not take the route.
	ReasonNotAccepted = "NotAccepted"
	// ReasonNotRequested: the spec asks for neither ingress nor gateway nor tls; the Service is there.
	ReasonNotRequested = "NotRequested"
	// ReasonCertificateInvalid: the Secret that exposure.tls names holds no certificate or key that can be used.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonNameMismatch: the server's certificate is not for the name that clients use. Of ClusterPullReady too: not for
	// the address that nodes use.
	ReasonNameMismatch = "NameMismatch"
)

// Reasons of ClusterPullReady, besides ReasonPending, ReasonNotPermitted, ReasonSecretNotFound, ReasonSecretNotOwned and
// those of the server's certificate.
const (
	// ReasonPublished: everything is there.
	ReasonPublished = "Published"
	// ReasonClusterModeNeeded: the operator does not look at all namespaces, as this needs.
	ReasonClusterModeNeeded = "ClusterModeNeeded"
	// ReasonPullSecretInvalid: the Secret to copy is no pull secret. Copies stay as they are.
	ReasonPullSecretInvalid = "PullSecretInvalid"
)

// Reasons of DatabaseReady.
const (
	// ReasonClaimBound: the claim is bound to a volume.
	ReasonClaimBound = "ClaimBound"
	// ReasonStorageFull: the claim's volume, or with type None the node's disk, has no room for another write.
	ReasonStorageFull = "StorageFull"
	// ReasonClaimPending: the claim waits for a volume; normal until a pod is scheduled. The condition is true while
	// spec.replicas is 0.
	ReasonClaimPending = "ClaimPending"
	// ReasonClaimLost: the claim's volume is gone.
	ReasonClaimLost = "ClaimLost"
	// ReasonClaimNotFound: the claim named in existingClaim does not exist.
	ReasonClaimNotFound = "ClaimNotFound"
	// ReasonClaimNotOwned: a claim of that name is not the operator's.
	ReasonClaimNotOwned = "ClaimNotOwned"
	// ReasonConnected: the servers reach the PostgreSQL. The operator does not connect to it: they say so.
	ReasonConnected = "Connected"
	// ReasonConnecting: no server has said yet whether it reaches the PostgreSQL.
	ReasonConnecting = "Connecting"
	// ReasonConnectionFailed: a server does not reach the PostgreSQL, or is refused by it.
	ReasonConnectionFailed = "ConnectionFailed"
	// ReasonCredentialsNotFound: a Secret that spec.database.postgresql names, or an entry of it, does not exist.
	ReasonCredentialsNotFound = "CredentialsNotFound"
	// ReasonCredentialsInvalid: the content of such a Secret cannot be used.
	ReasonCredentialsInvalid = "CredentialsInvalid"
	// ReasonNotRequired: with type None, what the server knows goes with its pod.
	ReasonNotRequired = "NotRequired"
	// ReasonSchemaTooNew: a newer release wrote the database. Of Available: than that of the image that is to run, so the
	// server that knows it stays.
	ReasonSchemaTooNew = "SchemaTooNew"
)

// Reasons of DefaultHoldResolved.
const (
	// ReasonResolved: the DID is known. Of a HoldLink's Resolved too.
	ReasonResolved = "Resolved"
	// ReasonNoHold: there is no HoldLink, or the named one does not exist.
	ReasonNoHold = "NoHold"
	// ReasonAmbiguous: several holds could be the default.
	ReasonAmbiguous = "Ambiguous"
	// ReasonDIDUnresolved: the hold's DID is not known yet.
	ReasonDIDUnresolved = "DIDUnresolved"
	// ReasonUsingLastKnown: the server keeps the default it has, since the choice is not clear. The condition is true.
	ReasonUsingLastKnown = "UsingLastKnown"
)

// Reasons of Available.
const (
	// ReasonMinimumReplicasAvailable: every replica is ready.
	ReasonMinimumReplicasAvailable = "MinimumReplicasAvailable"
	// ReasonScaledToZero: spec.replicas is 0. The condition is true.
	ReasonScaledToZero = "ScaledToZero"
	// ReasonWaiting: no pods are asked for before keys and default hold are there.
	ReasonWaiting = "Waiting"
	// ReasonDeadlineExceeded: the rollout makes no progress.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonImagePullFailed: a node cannot pull the server's image.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonCrashLooping: the server ends again and again.
	ReasonCrashLooping = "CrashLooping"
	// ReasonUnschedulable: no node takes the pod.
	ReasonUnschedulable = "Unschedulable"
	// ReasonPodsRefused: the cluster refuses to create the pod (quota, admission).
	ReasonPodsRefused = "PodsRefused"
)

// Reasons of HoldsHealthy.
const (
	// ReasonAllHealthy: every accepted hold answers.
	ReasonAllHealthy = "AllHealthy"
	// ReasonDefaultUnhealthy: the default hold does not answer.
	ReasonDefaultUnhealthy = "DefaultUnhealthy"
	// ReasonSomeUnhealthy: another hold does not answer.
	ReasonSomeUnhealthy = "SomeUnhealthy"
	// ReasonUnknown: not asked yet, or no HoldLink to ask. Of a HoldLink's Healthy too.
	ReasonUnknown = "Unknown"
)

// Conditions of a HoldLink.
const (
	// ConditionResolved: the hold's DID and endpoint are known and agree with its did.json.
	ConditionResolved = "Resolved"

	// ConditionHealthy: the hold answers its health check. Not part of Ready.
	ConditionHealthy = "Healthy"

	// ConditionProgrammed: every server of the AppView runs with the hold.
	ConditionProgrammed = "Programmed"
)

// Reasons of a HoldLink's Accepted, besides ReasonAccepted.
const (
	// ReasonAppViewNotFound: no AppView of that name.
	ReasonAppViewNotFound = "AppViewNotFound"
	// ReasonNotAllowedByAppView: the AppView does not admit HoldLinks from this namespace.
	ReasonNotAllowedByAppView = "NotAllowedByAppView"
	// ReasonDuplicateDID: an older HoldLink attaches the same hold to the same AppView.
	ReasonDuplicateDID = "DuplicateDID"
)

// Reasons of Resolved, besides ReasonResolved.
const (
	// ReasonFetchFailed: the DID document could not be read.
	ReasonFetchFailed = "FetchFailed"
	// ReasonInvalidDocument: the DID document does not describe a hold.
	ReasonInvalidDocument = "InvalidDocument"
	// ReasonDIDMismatch: the DID document is of another DID.
	ReasonDIDMismatch = "DIDMismatch"
	// ReasonServiceNotFound: no Service, or no port, of that name.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonRefNotPermitted: the Service is in another namespace, which has no ReferenceGrant for it.
	ReasonRefNotPermitted = "RefNotPermitted"
	// ReasonCABundleInvalid: the Secret with certificates is not there, or holds none.
	ReasonCABundleInvalid = "CABundleInvalid"
	// ReasonBlockedAddress: the address is one that the operator must not call.
	ReasonBlockedAddress = "BlockedAddress"
)

// Reasons of Healthy, besides ReasonUnknown.
const (
	// ReasonHealthy: the hold answers 200.
	ReasonHealthy = "Healthy"
	// ReasonUnreachable: no connection.
	ReasonUnreachable = "Unreachable"
	// ReasonTimeout: no answer in time.
	ReasonTimeout = "Timeout"
	// ReasonTLSError: the certificate is not trusted, or not of that host.
	ReasonTLSError = "TLSError"
	// ReasonBadStatus: an answer other than 200.
	ReasonBadStatus = "BadStatus"
)

// Reasons of Programmed.
const (
	// ReasonInUse: the server was told, and this is its default hold.
	ReasonInUse = "InUse"
	// ReasonNotDefault: the server was told; users choose the hold in their profile. The condition is true.
	ReasonNotDefault = "NotDefault"
	// ReasonPending: not every server runs with it yet.
	ReasonPending = "Pending"
)
