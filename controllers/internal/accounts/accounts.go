// Package accounts puts pull secrets into service accounts that belong to others, and takes out what it has put in.
//
// An annotation on the account says which entries are the operator's, and of which AppView; every other entry stays as it
// is. Nothing is watched before the first AppView asks for it; from then on the accounts of all namespaces are, without
// what is of no use here.
package accounts

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
)

const (
	syncIn = 20 * time.Second
	// byOwner finds the accounts with an entry of an AppView; its value is NAMESPACE/NAME.
	byOwner = "pull-secrets-of"
)

// Accounts reads and patches service accounts.
type Accounts struct {
	cache cache.Cache
	// client of its own: the manager's, after a write, waits for a cache that never has what belongs to others.
	client client.Client

	mu       sync.Mutex
	watched  bool
	watchers []watcher
}

// Handler says which AppViews a change of an account concerns.
type Handler func(ctx context.Context, account *corev1.ServiceAccount) []reconcile.Request

type watcher struct {
	ctx     context.Context //nolint:containedctx // of the source, whose events have no other
	handler Handler
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// New registers an Accounts with the manager.
func New(mgr ctrl.Manager) (*Accounts, error) {
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(),
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            strip,
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache of service accounts: %w", err)
	}
	if err := mgr.Add(c); err != nil {
		return nil, fmt.Errorf("adding the cache of service accounts: %w", err)
	}
	w, err := client.New(mgr.GetConfig(), client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("making the client of service accounts: %w", err)
	}
	return &Accounts{cache: c, client: w}, nil
}

// strip keeps what is patched, and who it is.
func strip(o any) (any, error) {
	a, ok := o.(*corev1.ServiceAccount)
	if !ok {
		return o, nil
	}
	out := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Name: a.Name, Namespace: a.Namespace, UID: a.UID, ResourceVersion: a.ResourceVersion, DeletionTimestamp: a.DeletionTimestamp,
	}, ImagePullSecrets: a.ImagePullSecrets}
	if e, ok := a.Annotations[v1alpha1.AnnotationPullSecrets]; ok {
		out.Annotations = map[string]string{v1alpha1.AnnotationPullSecrets: e}
	}
	return out, nil
}

// Source brings changes to a controller.
func (a *Accounts) Source(h Handler) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.watchers = append(a.watchers, watcher{ctx, h, queue})
		return nil
	})
}

// watch begins to watch, once.
func (a *Accounts) watch(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watched {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, syncIn)
	defer cancel()
	err := a.cache.IndexField(ctx, &corev1.ServiceAccount{}, byOwner, func(o client.Object) []string {
		return slices.Sorted(maps.Values(Entries(o.(*corev1.ServiceAccount))))
	})
	if err != nil {
		return a.close(ctx, fmt.Errorf("indexing service accounts: %w", err))
	}
	informer, err := a.cache.GetInformer(ctx, &corev1.ServiceAccount{})
	if err == nil {
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: a.tell, DeleteFunc: a.tell, UpdateFunc: func(_, after any) { a.tell(after) },
		})
	}
	if err != nil {
		return a.close(ctx, fmt.Errorf("watching service accounts: %w", err))
	}
	a.watched = true
	return nil
}

// close forgets a watch that did not begin, so that the next try is a new one.
func (a *Accounts) close(ctx context.Context, err error) error {
	_ = a.cache.RemoveInformer(context.WithoutCancel(ctx), &corev1.ServiceAccount{})
	return err
}

func (a *Accounts) tell(o any) {
	if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	account, ok := o.(*corev1.ServiceAccount)
	if !ok {
		return
	}
	a.mu.Lock()
	watchers := slices.Clone(a.watchers)
	a.mu.Unlock()
	for _, w := range watchers {
		for _, r := range w.handler(w.ctx, account) {
			w.queue.Add(r)
		}
	}
}

// Get reads an account.
func (a *Accounts) Get(ctx context.Context, key client.ObjectKey) (*corev1.ServiceAccount, error) {
	if err := a.watch(ctx); err != nil {
		return nil, err
	}
	out := &corev1.ServiceAccount{}
	return out, a.cache.Get(ctx, key, out)
}

// Of lists the accounts with entries of an AppView.
func (a *Accounts) Of(ctx context.Context, appView types.NamespacedName) ([]corev1.ServiceAccount, error) {
	if err := a.watch(ctx); err != nil {
		return nil, err
	}
	var list corev1.ServiceAccountList
	if err := a.cache.List(ctx, &list, client.MatchingFields{byOwner: appView.String()}); err != nil {
		return nil, fmt.Errorf("listing service accounts: %w", err)
	}
	return list.Items, nil
}

// Patch changes an account, if it is still as it was read. One that is gone is no error.
func (a *Accounts) Patch(ctx context.Context, account *corev1.ServiceAccount, patch client.Patch) error {
	if err := a.client.Patch(ctx, account.DeepCopy(), patch, apply.FieldOwner); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("changing the pull secrets of service account %s/%s: %w", account.Namespace, account.Name, err)
	}
	return nil
}

// Entries are the pull secrets of an account that the operator has put there, with the AppViews that they are of.
func Entries(account *corev1.ServiceAccount) map[string]string {
	out := map[string]string{}
	for entry := range strings.SplitSeq(account.Annotations[v1alpha1.AnnotationPullSecrets], ",") {
		if secret, owner, ok := strings.Cut(entry, "="); ok {
			out[secret] = owner
		}
	}
	return out
}

func format(entries map[string]string) string {
	var out []string
	for _, secret := range slices.Sorted(maps.Keys(entries)) {
		out = append(out, secret+"="+entries[secret])
	}
	return strings.Join(out, ",")
}

// Put returns the patch that puts an AppView's pull secret into an account; nil: it is there, or the user has put it there.
func Put(account *corev1.ServiceAccount, secret string, appView types.NamespacedName) client.Patch {
	entries, ref := Entries(account), corev1.LocalObjectReference{Name: secret}
	if slices.Contains(account.ImagePullSecrets, ref) {
		return nil
	}
	entries[secret] = appView.String()
	return patch(account, entries, append(slices.Clone(account.ImagePullSecrets), ref))
}

// Take returns the patch that takes those of an AppView's pull secrets out of an account that are not to stay; nil: there
// are none.
func Take(account *corev1.ServiceAccount, appView types.NamespacedName, stays func(secret string) bool) client.Patch {
	entries, refs, some := Entries(account), slices.Clone(account.ImagePullSecrets), false
	for secret, owner := range Entries(account) {
		if owner != appView.String() || stays(secret) {
			continue
		}
		some = true
		delete(entries, secret)
		refs = slices.DeleteFunc(refs, func(r corev1.LocalObjectReference) bool { return r.Name == secret })
	}
	if !some {
		return nil
	}
	return patch(account, entries, refs)
}

// patch is of exactly the account that was read: its list of pull secrets is one value.
func patch(account *corev1.ServiceAccount, entries map[string]string, refs []corev1.LocalObjectReference) client.Patch {
	var note any // null removes the annotation
	if len(entries) > 0 {
		note = format(entries)
	}
	if refs == nil {
		refs = []corev1.LocalObjectReference{}
	}
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid": account.UID, "resourceVersion": account.ResourceVersion,
			"annotations": map[string]any{v1alpha1.AnnotationPullSecrets: note},
		},
		"imagePullSecrets": refs,
	})
	if err != nil {
		panic(err) // strings only
	}
	return client.RawPatch(types.MergePatchType, raw)
}
