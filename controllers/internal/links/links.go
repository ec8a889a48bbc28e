// Package links decides how HoldLinks and AppViews belong together. A HoldLink asks (spec.appViewRef), the AppView
// admits (spec.holdLinks.allowedNamespaces); one side alone is never enough. Everything here is pure: both controllers
// decide by the same functions and need not believe each other's status.
package links

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
)

// IndexAppView finds the HoldLinks of an AppView in the cache; its value is [IndexValue].
const IndexAppView = "spec.appViewRef"

// Max is how many HoldLinks one AppView takes, the oldest first.
const Max = 128

// Index registers [IndexAppView].
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.HoldLink{}, IndexAppView, func(o client.Object) []string {
		return []string{IndexValue(AppViewOf(o.(*v1alpha1.HoldLink)))}
	})
	if err != nil {
		return fmt.Errorf("indexing HoldLinks by AppView: %w", err)
	}
	return nil
}

// IndexValue is the key of an AppView in [IndexAppView].
func IndexValue(appView types.NamespacedName) string { return appView.String() }

// Of lists the HoldLinks that name an AppView.
func Of(ctx context.Context, c client.Reader, appView types.NamespacedName) ([]v1alpha1.HoldLink, error) {
	var list v1alpha1.HoldLinkList
	if err := c.List(ctx, &list, client.MatchingFields{IndexAppView: IndexValue(appView)}); err != nil {
		return nil, fmt.Errorf("listing the HoldLinks of AppView %s: %w", appView, err)
	}
	return list.Items, nil
}

// AppViewOf is the AppView that link names.
func AppViewOf(link *v1alpha1.HoldLink) types.NamespacedName {
	ref := link.Spec.AppViewRef
	return types.NamespacedName{Namespace: cmp.Or(string(ref.Namespace), link.Namespace), Name: string(ref.Name)}
}

// Key is the namespace and name of link.
func Key(link *v1alpha1.HoldLink) types.NamespacedName {
	return types.NamespacedName{Namespace: link.Namespace, Name: link.Name}
}

// Decision says whether an AppView takes a HoldLink, and why not.
type Decision struct {
	Accepted bool
	Reason   string
	Message  string
}

// NeedsLabels says whether [Decide] for av wants the labels of the links' namespaces.
func NeedsLabels(av *v1alpha1.AppView) bool {
	return av.Spec.HoldLinks.AllowedNamespaces.From == v1alpha1.FromSelector
}

// Decide is about every HoldLink that names av. namespaceLabels are those of the links' namespaces, for a selector.
func Decide(av *v1alpha1.AppView, all []v1alpha1.HoldLink, namespaceLabels map[string]map[string]string) map[types.NamespacedName]Decision {
	out := make(map[types.NamespacedName]Decision, len(all))
	oldest := map[string]types.NamespacedName{} // by DID
	accepted := 0
	for _, link := range byAge(all) {
		key := Key(&link)
		d := admit(av, &link, namespaceLabels[link.Namespace])
		if first, taken := oldest[link.Status.DID]; d.Accepted && taken && link.Status.DID != "" {
			d = Decision{Reason: v1alpha1.ReasonDuplicateDID, Message: fmt.Sprintf(
				"HoldLink %s attaches %s to this AppView already: delete one of the two", first, link.Status.DID)}
		}
		if d.Accepted && accepted == Max {
			d = Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
				"AppView %s has %d HoldLinks, which is as many as it takes: delete one", AppViewOf(&link), Max)}
		}
		if d.Accepted {
			accepted++
			oldest[link.Status.DID] = key
		}
		out[key] = d
	}
	return out
}

func byAge(all []v1alpha1.HoldLink) []v1alpha1.HoldLink {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b v1alpha1.HoldLink) int {
		return cmp.Or(
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name))
	})
	return all
}

func admit(av *v1alpha1.AppView, link *v1alpha1.HoldLink, namespaceLabels map[string]string) Decision {
	ok := Decision{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the AppView admits this HoldLink"}
	if link.Namespace == av.Namespace {
		return ok
	}
	allowed := av.Spec.HoldLinks.AllowedNamespaces
	switch allowed.From {
	case v1alpha1.FromAll:
		return ok
	case v1alpha1.FromSelector:
		if s, err := metav1.LabelSelectorAsSelector(allowed.Selector); err == nil && s.Matches(labels.Set(namespaceLabels)) {
			return ok
		}
	}
	return Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
		"AppView %s/%s does not admit HoldLinks from namespace %s: widen its spec.holdLinks.allowedNamespaces, or create the HoldLink in namespace %s",
		av.Namespace, av.Name, link.Namespace, av.Namespace)}
}

// NamespaceLabels reads the labels of the namespaces that all come from. The cache holds only their metadata.
func NamespaceLabels(ctx context.Context, c client.Reader, all []v1alpha1.HoldLink) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for i := range all {
		name := all[i].Namespace
		if _, known := out[name]; known {
			continue
		}
		ns := &metav1.PartialObjectMetadata{}
		ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		if err := c.Get(ctx, client.ObjectKey{Name: name}, ns); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("reading the labels of namespace %s: %w", name, err)
		}
		out[name] = ns.Labels
	}
	return out, nil
}
