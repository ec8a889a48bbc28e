package appview

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/accounts"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// indexOwner finds the Secrets that an AppView has in other namespaces; its value is NAMESPACE/NAME.
const indexOwner = "owner-elsewhere"

// indexOwners registers [indexOwner].
func indexOwners(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &corev1.Secret{}, indexOwner, func(o client.Object) []string {
		if l := o.GetLabels(); l[v1alpha1.LabelOwnerName] != "" {
			return []string{l[v1alpha1.LabelOwnerNamespace] + "/" + l[v1alpha1.LabelOwnerName]}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("indexing Secrets by AppView: %w", err)
	}
	return nil
}

// pullSecrets copies the pull secret into the namespaces that opted in, and takes back what has no business there any more.
// Secrets of others are never read: that one is in the way shows when the copy is to be made.
func (r *Reconciler) pullSecrets(ctx context.Context, sc *scope, report *pullReport) error {
	want := render.PullSecrets(sc.appView)
	if len(r.options.Namespaces) > 0 {
		if want != nil {
			report.fail(v1alpha1.ReasonClusterModeNeeded,
				"spec.clusterPull.pullSecrets needs an operator that watches all namespaces: start it without --watch-namespaces")
		}
		return nil
	}
	if want == nil {
		if err := r.takeBack(ctx, sc.appView); err != nil {
			return err
		}
		sc.status.PullSecrets = nil
		return nil
	}
	namespaces, err := r.consenting(ctx, sc.appView, want)
	if err != nil {
		return err
	}
	config, failed := r.pullSecret(ctx, sc, want, report)
	here, err := r.copies(ctx, sc.appView)
	if err != nil {
		return err
	}
	p := &propagation{appView: sc.appView, name: string(want.SourceSecretRef.Name), namespaces: map[string]bool{}}
	for i := range here {
		if c := &here[i]; c.Name == p.name && slices.Contains(namespaces, c.Namespace) {
			p.namespaces[c.Namespace] = true
		}
	}
	if config != nil {
		failed = r.copyTo(ctx, p, namespaces, config)
	}
	failed = errors.Join(failed, r.listIn(ctx, p, render.PullAccounts(want)),
		r.remove(ctx, sc.appView, here, func(s *corev1.Secret) bool { return s.Name == p.name && slices.Contains(namespaces, s.Namespace) }))
	copied := len(p.namespaces)
	if p.namespaces[sc.appView.Namespace] {
		copied--
	}
	sc.status.PullSecrets = &v1alpha1.PullSecretsStatus{Namespaces: int32(copied)}
	p.report(report, copied)
	return failed
}

// propagation is one pull secret on its way.
type propagation struct {
	appView    *v1alpha1.AppView
	name       string          // of the Secret, there as here
	namespaces map[string]bool // that have it
	foreign    []string        // where another Secret has its name
	refused    []string        // where the cluster does not take it
	why        string          // the first of those was refused
}

func (p *propagation) report(report *pullReport, copied int) {
	if len(p.foreign) > 0 {
		report.fail(v1alpha1.ReasonSecretNotOwned, "Secret %s exists in namespace %s and belongs to somebody else, so it is left alone: rename the one in spec.clusterPull.pullSecrets.sourceSecretRef, or remove that one",
			p.name, few(p.foreign))
	}
	if len(p.refused) > 0 {
		report.fail(v1alpha1.ReasonNotPermitted, "the cluster does not take a copy of Secret %s in namespace %s: %s", p.name, few(p.refused), p.why)
	}
	report.done = append(report.done, fmt.Sprintf("Secret %s is copied to %d namespaces", p.name, copied))
}

// few names the first of many.
func few(all []string) string {
	const most = 5
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// consenting are the namespaces that opted in, in order. The cache has their metadata only.
func (r *Reconciler) consenting(ctx context.Context, av *v1alpha1.AppView, want *v1alpha1.PullSecrets) ([]string, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := r.client.List(ctx, list, client.MatchingLabels{v1alpha1.LabelPullSecretsFrom: av.Namespace}); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	selector := labels.Everything()
	if want.NamespaceSelector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(want.NamespaceSelector); err != nil {
			return nil, fmt.Errorf("spec.clusterPull.pullSecrets.namespaceSelector: %w", err)
		}
	}
	var out []string
	for _, ns := range list.Items {
		if selector.Matches(labels.Set(ns.Labels)) && ns.DeletionTimestamp.IsZero() {
			out = append(out, ns.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// pullSecret reads what is to be copied; nil: it cannot be used, which is explained, and copies stay as they are.
func (r *Reconciler) pullSecret(ctx context.Context, sc *scope, want *v1alpha1.PullSecrets, report *pullReport) ([]byte, error) {
	const at = "spec.clusterPull.pullSecrets.sourceSecretRef"
	name := string(want.SourceSecretRef.Name)
	s, again, err := r.userSecrets.Get(ctx, sc.key(name))
	switch {
	case apierrors.IsNotFound(err):
		sc.again(again)
		report.fail(v1alpha1.ReasonSecretNotFound, "%s names Secret %s, which does not exist: create it; copies stay as they are", at, name)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	var config struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	raw := s.Data[corev1.DockerConfigJsonKey]
	if err := json.Unmarshal(raw, &config); err != nil || len(config.Auths) == 0 {
		sc.again(r.userSecrets.Unfit(sc.key(name)))
		report.fail(v1alpha1.ReasonPullSecretInvalid,
			"Secret %s, which %s names, has no entry %s with auths: make it by kubectl create secret docker-registry; copies stay as they are", name, at, corev1.DockerConfigJsonKey)
		return nil, nil
	}
	sc.again(again)
	return raw, nil
}

// copies are the AppView's in other namespaces.
func (r *Reconciler) copies(ctx context.Context, av *v1alpha1.AppView) ([]corev1.Secret, error) {
	var list corev1.SecretList
	if err := r.client.List(ctx, &list, client.MatchingFields{indexOwner: client.ObjectKeyFromObject(av).String()}); err != nil {
		return nil, fmt.Errorf("listing copies of pull secrets: %w", err)
	}
	return list.Items, nil
}

// copyTo writes the copies that are missing or not as they should be. What is wrong in one namespace stops no other.
func (r *Reconciler) copyTo(ctx context.Context, p *propagation, namespaces []string, config []byte) error {
	var failed error
	var wrote []string
	for _, ns := range namespaces {
		if ns == p.appView.Namespace {
			p.namespaces[ns] = true // the one that is copied
			continue
		}
		delete(p.namespaces, ns)
		done, err := r.copyOne(ctx, p.appView, ns, p.name, config)
		switch {
		case err == nil:
			p.namespaces[ns] = true
			if done {
				wrote = append(wrote, ns)
			}
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsNotFound(err): // the namespace goes
		case errors.Is(err, errForeign):
			p.foreign = append(p.foreign, ns)
		case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
			p.refused = append(p.refused, ns)
			if p.why == "" {
				p.why = string(apierrors.ReasonForError(err)) + ", by a quota, a policy or the operator's role"
			}
		default:
			failed = errors.Join(failed, fmt.Errorf("copying Secret %s to namespace %s: %w", p.name, ns, err))
		}
	}
	if len(wrote) > 0 {
		r.note(p.appView, "PullSecretCopied", "copied Secret %s to namespace %s", p.name, few(wrote))
	}
	return failed
}

// errForeign says that a Secret is somebody else's.
var errForeign = errors.New("the Secret belongs to somebody else")

// copyOne writes one copy, in place where there is one: the kubelet remembers which Secret an image was pulled with.
func (r *Reconciler) copyOne(ctx context.Context, av *v1alpha1.AppView, namespace, name string, config []byte) (wrote bool, err error) {
	want, live := render.PullSecretCopy(av, namespace, name, config), &corev1.Secret{}
	err = r.client.Get(ctx, client.ObjectKeyFromObject(want), live)
	switch {
	case apierrors.IsNotFound(err):
		// The cache has every Secret with our label: whatever else there is belongs to others.
		if err := r.client.Create(ctx, want, apply.FieldOwner); apierrors.IsAlreadyExists(err) {
			return false, errForeign
		} else if err != nil {
			return false, err
		}
		return true, nil
	case err != nil:
		return false, err
	case !render.OwnedElsewhere(av, live):
		return false, errForeign
	case maps.EqualFunc(live.Data, want.Data, bytes.Equal):
		return false, nil
	}
	after := live.DeepCopy()
	after.Data = want.Data
	return true, r.client.Patch(ctx, after, client.MergeFromWithOptions(live, client.MergeFromWithOptimisticLock{}), apply.FieldOwner)
}

// listIn has the service accounts name the copies, and no longer those that are not to. One that does not exist yet is
// watched for.
func (r *Reconciler) listIn(ctx context.Context, p *propagation, names []v1alpha1.ObjectName) error {
	owner := client.ObjectKeyFromObject(p.appView)
	failed := r.unlist(ctx, owner, func(account *corev1.ServiceAccount, secret string) bool {
		return secret == p.name && p.namespaces[account.Namespace] && slices.Contains(names, v1alpha1.ObjectName(account.Name))
	})
	for _, ns := range slices.Sorted(maps.Keys(p.namespaces)) {
		for _, name := range names {
			account, err := r.options.Accounts.Get(ctx, client.ObjectKey{Namespace: ns, Name: string(name)})
			if apierrors.IsNotFound(err) || err == nil && !account.DeletionTimestamp.IsZero() {
				continue
			} else if err != nil {
				return errors.Join(failed, fmt.Errorf("reading service account %s/%s: %w", ns, name, err))
			}
			if patch := accounts.Put(account, p.name, owner); patch != nil {
				failed = errors.Join(failed, r.options.Accounts.Patch(ctx, account, patch))
			}
		}
	}
	return failed
}

// unlist takes the AppView's pull secrets out of service accounts, but for those that stay.
func (r *Reconciler) unlist(ctx context.Context, owner types.NamespacedName, stays func(account *corev1.ServiceAccount, secret string) bool) error {
	listed, failed := r.options.Accounts.Of(ctx, owner)
	for i := range listed {
		account := &listed[i]
		patch := accounts.Take(account, owner, func(secret string) bool { return stays(account, secret) })
		if patch != nil {
			failed = errors.Join(failed, r.options.Accounts.Patch(ctx, account, patch))
		}
	}
	return failed
}

// remove deletes the copies that are not to stay.
func (r *Reconciler) remove(ctx context.Context, av *v1alpha1.AppView, copies []corev1.Secret, stays func(*corev1.Secret) bool) error {
	var removed []string
	var failed error
	for i := range copies {
		c := &copies[i]
		if stays(c) || !c.DeletionTimestamp.IsZero() {
			continue
		}
		uid := c.UID
		if err := r.client.Delete(ctx, c, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			failed = errors.Join(failed, fmt.Errorf("deleting Secret %s/%s: %w", c.Namespace, c.Name, err))
			continue
		}
		removed = append(removed, c.Namespace)
	}
	if len(removed) > 0 {
		r.note(av, "PullSecretRemoved", "removed the copy of a pull secret from namespace %s", few(removed))
	}
	return failed
}

// takeBack removes every copy, after the accounts that name it no longer do.
func (r *Reconciler) takeBack(ctx context.Context, av *v1alpha1.AppView) error {
	copies, err := r.copies(ctx, av)
	if err != nil || av.Status.PullSecrets == nil && len(copies) == 0 {
		return err
	}
	if err := r.unlist(ctx, client.ObjectKeyFromObject(av), func(*corev1.ServiceAccount, string) bool { return false }); err != nil {
		return err
	}
	return r.remove(ctx, av, copies, func(*corev1.Secret) bool { return false })
}
