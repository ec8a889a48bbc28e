package render

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"atcr.io/operator/api/v1alpha1"
)

// Labels of the pods and of everything else.
const (
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelPartOf    = "app.kubernetes.io/part-of"

	serverName = "atcr-appview"
)

// Names of the objects of the AppView called name. Deployment, Service and ServiceAccount have the AppView's own name.
func SigningSecretName(name string) string { return name + "-signing" }

// SigningSourceName is the Certificate that cert-manager makes signing keys by, and its Secret. No pod mounts it.
func SigningSourceName(name string) string { return name + "-signing-source" }

// ServerCertificateName is the Certificate that cert-manager makes the server's certificate by, and its Secret.
func ServerCertificateName(name string) string { return name + "-server-tls" }

// StagedSecretName is the Secret with the private half of the next signing key. No pod mounts it.
func StagedSecretName(name string) string { return name + "-signing-next" }

// OAuthSecretName is the Secret with the OAuth client's keys.
func OAuthSecretName(name string) string { return name + "-oauth" }

// DIDSecretName is the Secret with the key of the AppView's own DID.
func DIDSecretName(name string) string { return name + "-did" }

// SealingSecretName is the Secret with the key that seals stored sessions.
func SealingSecretName(name string) string { return name + "-sealing" }

// RuntimeName is the ConfigMap with the runtime file.
func RuntimeName(name string) string { return name + "-runtime" }

// NodeConfigName is the ConfigMap with files for container runtimes.
func NodeConfigName(name string) string { return name + "-node-config" }

// ClaimName is the claim of the SQLite database.
func ClaimName(name string) string { return name + "-data" }

// BackupClaimName is the claim of the backups of the SQLite database.
func BackupClaimName(name string) string { return name + "-backup" }

// Selector of the server's pods. It can never change: a Deployment's selector is immutable.
func Selector(name string) map[string]string {
	return map[string]string{labelName: serverName, labelInstance: name}
}

// Labels of every object of av.
func Labels(av *v1alpha1.AppView) map[string]string {
	l := maps.Clone(av.Spec.InheritedMetadata.Labels)
	if l == nil {
		l = map[string]string{}
	}
	maps.Copy(l, Selector(av.Name))
	l[labelComponent] = "registry"
	l[labelPartOf] = "atcr"
	l[v1alpha1.LabelManagedBy] = v1alpha1.ManagedBy
	l[v1alpha1.LabelAppView] = av.Name
	return l
}

func annotations(av *v1alpha1.AppView, more map[string]string) map[string]string {
	a := maps.Clone(av.Spec.InheritedMetadata.Annotations)
	if a == nil {
		a = map[string]string{}
	}
	maps.Copy(a, more)
	return a
}

// owner makes the garbage collector remove the object with av. Claims and key Secrets have none: the finalizer carries
// out spec.deletionPolicy.
func owner(av *v1alpha1.AppView) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.SchemeGroupVersion.String()).
		WithKind("AppView").
		WithName(av.Name).
		WithUID(av.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
}

// Owned says whether an object of av's name is the operator's to write: it is av's by owner reference, or it carries
// our labels for an AppView of that name.
func Owned(av *v1alpha1.AppView, o metav1.Object) bool {
	if ref := metav1.GetControllerOf(o); ref != nil {
		return ref.UID == av.UID
	}
	l := o.GetLabels()
	return l[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy && l[v1alpha1.LabelAppView] == av.Name
}

// LabelsElsewhere are those of an object of av in another namespace, where there may be an AppView of the same name.
func LabelsElsewhere(av *v1alpha1.AppView) map[string]string {
	l := maps.Clone(av.Spec.InheritedMetadata.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l[labelPartOf] = "atcr"
	l[v1alpha1.LabelManagedBy] = v1alpha1.ManagedBy
	l[v1alpha1.LabelOwnerName] = av.Name
	l[v1alpha1.LabelOwnerNamespace] = av.Namespace
	return l
}

// OwnedElsewhere says whether an object in another namespace is av's.
func OwnedElsewhere(av *v1alpha1.AppView, o metav1.Object) bool {
	l := o.GetLabels()
	return l[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy && l[v1alpha1.LabelOwnerName] == av.Name && l[v1alpha1.LabelOwnerNamespace] == av.Namespace
}
