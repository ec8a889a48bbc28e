// Package links decides how HoldLinks and AppViews belong together. A HoldLink asks (spec.appViewRef), the AppView
// admits (spec.holdLinks.allowedNamespaces); one side alone is never enough. Everything here is pure: both controllers
// decide by the same functions and need not believe each other's status.
package links

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/atproto/diddoc"
)

// IndexAppView finds the HoldLinks of an AppView in the cache; its value is [IndexValue].
const IndexAppView = "spec.appViewRef"

// Max is how many HoldLinks one AppView takes, its own before those of other namespaces, and the oldest first.
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

// Decide is about every HoldLink that names av. namespaceLabels are those of the links' namespaces, for a selector; a
// namespace that is not among them is not known, and not selected by anything.
//
// Of several links to one hold the AppView's own counts before those of other namespaces, then the oldest. One whose hold
// was not found yet keeps nobody else out.
func Decide(av *v1alpha1.AppView, all []v1alpha1.HoldLink, namespaceLabels map[string]map[string]string) map[types.NamespacedName]Decision {
	out := make(map[types.NamespacedName]Decision, len(all))
	first := map[string]types.NamespacedName{} // by DID
	accepted := 0
	for _, link := range byRank(av, all) {
		key := Key(&link)
		d := admit(av, &link, namespaceLabels)
		if other, taken := first[link.Status.DID]; d.Accepted && taken && link.Status.DID != "" {
			d = Decision{Reason: v1alpha1.ReasonDuplicateDID, Message: fmt.Sprintf(
				"HoldLink %s attaches %s to this AppView already: delete one of the two", other, link.Status.DID)}
		}
		if d.Accepted && accepted == Max {
			d = Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
				"AppView %s has %d HoldLinks, which is as many as it takes: delete one", AppViewOf(&link), Max)}
		}
		if d.Accepted {
			accepted++
			if found(&link) {
				first[link.Status.DID] = key
			}
		}
		out[key] = d
	}
	return out
}

// found says that the hold itself has confirmed the DID in status, once.
func found(link *v1alpha1.HoldLink) bool {
	return link.Status.DID != "" && link.Status.LastResolvedTime != nil
}

func byRank(av *v1alpha1.AppView, all []v1alpha1.HoldLink) []v1alpha1.HoldLink {
	rank := func(l *v1alpha1.HoldLink) int {
		r := 0
		if l.Namespace != av.Namespace {
			r += 2
		}
		if !found(l) {
			r++
		}
		return r
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b v1alpha1.HoldLink) int {
		return cmp.Or(
			cmp.Compare(rank(&a), rank(&b)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name))
	})
	return all
}

func admit(av *v1alpha1.AppView, link *v1alpha1.HoldLink, namespaceLabels map[string]map[string]string) Decision {
	ok := Decision{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the AppView admits this HoldLink"}
	if link.Namespace == av.Namespace {
		return ok
	}
	admitted := false
	switch allowed := av.Spec.HoldLinks.AllowedNamespaces; allowed.From {
	case v1alpha1.FromAll:
		admitted = true
	case v1alpha1.FromSelector:
		s, err := metav1.LabelSelectorAsSelector(allowed.Selector)
		of, known := namespaceLabels[link.Namespace]
		admitted = err == nil && known && s.Matches(labels.Set(of))
	}
	if !admitted {
		return Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
			"AppView %s/%s does not admit HoldLinks from namespace %s: widen its spec.holdLinks.allowedNamespaces, or create the HoldLink in namespace %s",
			av.Namespace, av.Name, link.Namespace, av.Namespace)}
	}
	return foreign(av, link, ok)
}

// foreign is what a link of another namespace may not do, though it is admitted: say where somebody else's hold is.
// Uploads and users' tokens go there.
func foreign(av *v1alpha1.AppView, link *v1alpha1.HoldLink, ok Decision) Decision {
	did := cmp.Or(diddoc.Canonical(string(link.Spec.Hold.DID)), link.Status.DID)
	if d := av.Spec.DefaultHold; d != nil && d.DID != "" && did == diddoc.Canonical(string(d.DID)) {
		return Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
			"%s is the spec.defaultHold.did of AppView %s/%s, which a HoldLink in its own namespace %s may attach only", did, av.Namespace, av.Name, av.Namespace)}
	}
	if at := string(link.Spec.Endpoint); at != "" && (!ownHost(did, at) || !vouched(link.Namespace, at)) {
		return Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
			"spec.endpoint is not where %s itself answers by https, and AppView %s/%s takes another from HoldLinks in its own namespace only: leave endpoint out, or create the HoldLink in namespace %s",
			did, av.Namespace, av.Name, av.Namespace)}
	}
	if link.Spec.Trust.CABundleSecretRef != nil && !ownService(link.Namespace, hostOf(link, did)) {
		return Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
			"spec.trust.caBundleSecretRef lets its authorities answer for a hold that is no Service of namespace %s, and AppView %s/%s takes that from HoldLinks in its own namespace only: leave trust out, name a Service of namespace %s, or create the HoldLink in namespace %s",
			link.Namespace, av.Namespace, av.Name, link.Namespace, av.Namespace)}
	}
	if at := string(link.Spec.Hold.URL); at != "" && !vouched(link.Namespace, at) {
		return Decision{Reason: v1alpha1.ReasonNotAllowedByAppView, Message: fmt.Sprintf(
			"spec.hold.url is plain HTTP, by which anybody on the way may answer for the did:web of its host, and AppView %s/%s takes that from HoldLinks in its own namespace only: use https, a Service of namespace %s, or create the HoldLink in namespace %s",
			av.Namespace, av.Name, link.Namespace, av.Namespace)}
	}
	return ok
}

// ownHost says whether an endpoint is on the host and port that a did:web names.
func ownHost(did, endpoint string) bool {
	w, err := diddoc.ParseWebDID(did)
	if err != nil {
		return false
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.User != nil {
		return false
	}
	own := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return strings.EqualFold(strings.TrimSuffix(u.Host, own), strings.TrimSuffix(w.HostPort(), own))
}

// vouched says whether who answers at a URL is its host: by TLS, since it is a Service of the namespace itself, or since
// nobody is on the way.
func vouched(namespace, at string) bool {
	u, err := url.Parse(at)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || err == nil && ip.IsLoopback() || ownService(namespace, u.Hostname())
}

// ownService says whether a host is that of a Service in the namespace.
func ownService(namespace, host string) bool {
	_, zone, _ := strings.Cut(strings.ToLower(host), ".")
	return zone == namespace+".svc" || strings.HasPrefix(zone, namespace+".svc.")
}

// hostOf is the host that a link has called; empty: it is not known by the link.
func hostOf(link *v1alpha1.HoldLink, did string) string {
	if ref := link.Spec.Hold.ServiceRef; ref != nil {
		return string(ref.Name) + "." + cmp.Or(string(ref.Namespace), link.Namespace) + ".svc"
	}
	if u, err := url.Parse(cmp.Or(string(link.Spec.Endpoint), string(link.Spec.Hold.URL))); err == nil && u.Host != "" {
		return u.Hostname()
	}
	if w, err := diddoc.ParseWebDID(did); err == nil {
		host, _, _ := strings.Cut(w.HostPort(), ":")
		return host
	}
	return ""
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
		if err := c.Get(ctx, client.ObjectKey{Name: name}, ns); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("reading the labels of namespace %s: %w", name, err)
		}
		out[name] = ns.Labels
	}
	return out, nil
}
