package v1alpha1

// keyPrefix is before the name of every label and annotation of ours; users cannot have the operator write such keys.
const keyPrefix = "operator.atcr.io/"

// Labels and annotations that the operator writes on what it makes.
const (
	// ManagedBy is the value of app.kubernetes.io/managed-by. The operator's caches of Secrets, ConfigMaps, Services
	// and Pods hold only objects with it.
	ManagedBy      = "atcr-operator"
	LabelManagedBy = "app.kubernetes.io/managed-by"

	// LabelAppView names the AppView that an object belongs to.
	LabelAppView = "operator.atcr.io/appview"

	// LabelOwnerName and LabelOwnerNamespace name the AppView that an object in another namespace belongs to.
	LabelOwnerName      = "operator.atcr.io/owner-name"
	LabelOwnerNamespace = "operator.atcr.io/owner-namespace"

	// LabelRetained is "true" on what a deleted AppView left behind (spec.deletionPolicy). A later AppView of the same
	// namespace and name takes it over and removes the label.
	LabelRetained = "operator.atcr.io/retained"

	// AnnotationRetainedFrom is the UID of the AppView that left the object behind.
	AnnotationRetainedFrom = "operator.atcr.io/retained-from"

	// AnnotationIntentHash is the hash of what the operator applied, so that an unchanged object costs no request.
	AnnotationIntentHash = "operator.atcr.io/intent-hash"

	// AnnotationConsumedHash on a pod template is the hash of the secret bytes that the server reads only at start.
	AnnotationConsumedHash = "operator.atcr.io/consumed-hash"

	// AnnotationImage on a Deployment is the image that the operator wrote there. The one in its template may be that of a
	// mirror, which another writer puts in front.
	AnnotationImage = "operator.atcr.io/image"

	// AnnotationKeyID and AnnotationKeyAlgorithm describe the key in a signing Secret.
	AnnotationKeyID        = "operator.atcr.io/key-id"
	AnnotationKeyAlgorithm = "operator.atcr.io/key-algorithm"

	// AnnotationKeySet on a Secret with keys says what its files do not: since when and until when each key counts.
	AnnotationKeySet = "operator.atcr.io/key-set"

	// AnnotationServiceName on a signing Secret is the service name that its first tokens had: a base URL that changes does
	// not make them invalid.
	AnnotationServiceName = "operator.atcr.io/service-name"

	// AnnotationPullSecrets on a service account lists the pull secrets that the operator has put there, each as
	// SECRET=NAMESPACE/NAME of its AppView.
	AnnotationPullSecrets = "operator.atcr.io/pull-secrets"

	// AnnotationPoke on a pod makes the kubelet look at its volumes at once.
	AnnotationPoke = "operator.atcr.io/poke"

	// Finalizer lets the operator carry out spec.deletionPolicy.
	Finalizer = "operator.atcr.io/deletion-policy"
)

// What you may put on an AppView or on what it names.
const (
	// AnnotationReconcile on an AppView, with a new value, has it looked at now (status.lastHandledReconcileAt).
	AnnotationReconcile = "operator.atcr.io/reconcile"

	// AnnotationRotate and AnnotationRotateOAuth on an AppView, with a new value, rotate a key once. A value that begins
	// with revoke- takes earlier keys away at once.
	AnnotationRotate      = "operator.atcr.io/rotate"
	AnnotationRotateOAuth = "operator.atcr.io/rotate-oauth"

	// LabelWatch is "true" on a Secret of yours whose changes are to be seen at once. Others are read every ten minutes.
	LabelWatch = "operator.atcr.io/watch"

	// LabelPullSecretsFrom on a namespace takes copies of pull secrets from AppViews of the namespace that it names
	// (spec.clusterPull.pullSecrets).
	LabelPullSecretsFrom = "operator.atcr.io/pull-secrets-from"
)
