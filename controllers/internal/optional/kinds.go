package optional

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Kind is a kind that may not be served.
type Kind struct {
	schema.GroupVersionKind
	// Plural is the resource's name in URLs and RBAC.
	Plural string
	// Foreign says that objects of others are read. Else only those with the operator's label are.
	Foreign bool
}

// Definition is the name of the CustomResourceDefinition.
func (k Kind) Definition() string { return k.Plural + "." + k.Group }

// New is an empty object of the kind.
func (k Kind) New() *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(k.GroupVersionKind)
	return o
}

// What can be wrong with a kind.
var (
	ErrNotServed = errors.New("is not served by this cluster")
	ErrForbidden = errors.New("may not be read by the operator: its role has no rule for it")
	// ErrUnsure is an [ErrNotServed] that may be the API server's trouble only: it is looked again soon.
	ErrUnsure = fmt.Errorf("%w, as far as can be told now", ErrNotServed)
)

const (
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Minute
	// lookEvery is how often a kind that cannot be read is looked for when somebody asks for it.
	lookEvery = time.Minute
	syncIn    = 20 * time.Second
)

// Options say what is watched.
type Options struct {
	Kinds []Kind
	// Namespaces that are watched; empty: all. With names, definitions are not watched: that would need a right in the
	// whole cluster. A kind that was not served is then looked for when it is asked for, once a minute at most.
	Namespaces []string
	// Label that objects of the operator carry.
	Label labels.Selector
}

// Kinds knows which of a list of kinds are served, and caches their objects. It is a manager's Runnable.
type Kinds struct {
	options  Options
	own      cache.Cache
	foreign  cache.Cache
	live     client.Reader
	mapper   meta.RESTMapper
	now      func() time.Time
	looks    workqueue.TypedRateLimitingInterface[schema.GroupVersionKind]
	started  chan struct{} // closed once every kind has been looked for
	mu       sync.Mutex
	states   map[schema.GroupVersionKind]*state
	watchers []*watcher
}

type state struct {
	kind   Kind
	err    error     // why it cannot be read; nil: it is watched
	looked time.Time // when that was found out
	// defined says that the kind had a definition: once that goes, the kind is gone, whatever the API server still answers.
	defined bool
}

// New registers a Kinds with the manager.
func New(mgr ctrl.Manager, o Options) (*Kinds, error) {
	k := &Kinds{
		options: o, live: mgr.GetAPIReader(), mapper: mgr.GetRESTMapper(), now: time.Now, started: make(chan struct{}),
		states: map[schema.GroupVersionKind]*state{},
		looks: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[schema.GroupVersionKind](retryFirst, retryMost)),
	}
	for _, kind := range o.Kinds {
		k.states[kind.GroupVersionKind] = &state{kind: kind, err: ErrNotServed}
	}
	options := cache.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(),
		DefaultTransform:            cache.TransformStripManagedFields(),
		ReaderFailOnMissingInformer: true,
	}
	for _, n := range o.Namespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[n] = cache.Config{}
	}
	var err error
	if k.foreign, err = cache.New(mgr.GetConfig(), options); err != nil {
		return nil, fmt.Errorf("making the cache of optional kinds: %w", err)
	}
	options.DefaultLabelSelector = o.Label
	if k.own, err = cache.New(mgr.GetConfig(), options); err != nil {
		return nil, fmt.Errorf("making the cache of optional kinds: %w", err)
	}
	if err := mgr.Add(k); err != nil {
		return nil, fmt.Errorf("adding the cache of optional kinds: %w", err)
	}
	return k, nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: caches are warm before a replica leads.
func (k *Kinds) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (k *Kinds) Start(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 2)
	for _, c := range []cache.Cache{k.own, k.foreign} {
		running.Go(func() { failed <- c.Start(ctx) })
		c.WaitForCacheSync(ctx) // nothing is watched yet: this waits until watching can begin
	}
	if len(k.options.Namespaces) == 0 {
		if err := k.watchDefinitions(ctx); err != nil {
			return err
		}
	}
	for gvk := range k.states {
		if err := k.look(ctx, gvk); err != nil {
			k.looks.AddRateLimited(gvk)
		}
	}
	close(k.started)
	running.Go(k.work(ctx))
	defer k.looks.ShutDown()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if ctx.Err() == nil && err != nil {
			return fmt.Errorf("running the cache of optional kinds: %w", err)
		}
		return nil
	}
}

// watchDefinitions looks again for a kind whose definition appears, changes or goes. Only metadata is kept.
func (k *Kinds) watchDefinitions(ctx context.Context) error {
	byName := map[string]schema.GroupVersionKind{}
	for gvk, s := range k.states {
		byName[s.kind.Definition()] = gvk
	}
	changed := func(o any) {
		if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		if m, ok := o.(metav1.Object); ok {
			if gvk, ours := byName[m.GetName()]; ours {
				k.looks.Add(gvk)
			}
		}
	}
	informer, err := k.foreign.GetInformer(ctx, definition(), cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching definitions: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: changed, DeleteFunc: changed,
		UpdateFunc: func(_, after any) { changed(after) },
	})
	if err != nil {
		return fmt.Errorf("watching definitions: %w", err)
	}
	return nil
}

func definition() *metav1.PartialObjectMetadata {
	d := &metav1.PartialObjectMetadata{}
	d.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	return d
}

func (k *Kinds) work(ctx context.Context) func() {
	return func() {
		for {
			gvk, down := k.looks.Get()
			if down {
				return
			}
			if err := k.look(ctx, gvk); err != nil && ctx.Err() == nil {
				k.looks.AddRateLimited(gvk)
			} else {
				k.looks.Forget(gvk)
			}
			k.looks.Done(gvk)
		}
	}
}

// look finds out whether a kind can be read, and begins or ends watching it. Its error is one that is tried again.
func (k *Kinds) look(ctx context.Context, gvk schema.GroupVersionKind) error {
	k.mu.Lock()
	s := k.states[gvk]
	kind, was := s.kind, s.err
	k.mu.Unlock()

	found, again := k.readable(ctx, kind)
	if again != nil && was == nil {
		return again // it is watched, until it is known to be gone
	}
	if found == nil && !k.defined(ctx, s) {
		found = ErrNotServed // its event brings it back
	}
	if found == nil && was != nil {
		if err := k.watch(ctx, kind); err != nil {
			found, again = ErrUnsure, err
		}
	}
	if found != nil && was == nil {
		if err := k.cacheOf(kind).RemoveInformer(ctx, kind.New()); err != nil {
			again = errors.Join(again, err)
		}
	}
	k.mu.Lock()
	s.err, s.looked = found, k.now()
	k.mu.Unlock()
	if (found == nil) != (was == nil) {
		log.FromContext(ctx).Info("an optional kind is or is not served now", "kind", kind.Kind, "group", kind.Group, "served", found == nil)
		k.tell(gvk)
	}
	return again
}

// readable asks for the kind as a watch would.
func (k *Kinds) readable(ctx context.Context, kind Kind) (found, again error) {
	if _, err := k.mapper.RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
		return ErrNotServed, k.installed(ctx, kind)
	} else if err != nil {
		return ErrUnsure, fmt.Errorf("looking for %s: %w", kind.Kind, err)
	}
	namespaces := k.options.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, n := range namespaces {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersionKind)
		err := k.live.List(ctx, list, client.InNamespace(n), client.Limit(1))
		switch {
		case apierrors.IsForbidden(err):
			return ErrForbidden, nil
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			return ErrNotServed, k.installed(ctx, kind) // the mapper remembers what is gone
		case err != nil:
			return ErrUnsure, fmt.Errorf("listing %s: %w", kind.Plural, err)
		}
	}
	return nil, nil
}

// installed is an error while a kind has a definition that the API server does not serve yet.
func (k *Kinds) installed(ctx context.Context, kind Kind) error {
	if len(k.options.Namespaces) > 0 {
		return nil
	}
	d := definition()
	if err := k.foreign.Get(ctx, client.ObjectKey{Name: kind.Definition()}, d); err != nil {
		return nil //nolint:nilerr // not there, or not known yet: its event brings the kind back
	}
	return fmt.Errorf("%s is installed and not served yet", kind.Definition())
}

// defined is false when the kind's definition is gone or on its way out. The API server serves such a kind for a little
// while longer, and no event tells when it no longer does. A kind without a definition is an aggregated one.
func (k *Kinds) defined(ctx context.Context, s *state) bool {
	if len(k.options.Namespaces) > 0 {
		return true
	}
	d := definition()
	err := k.foreign.Get(ctx, client.ObjectKey{Name: s.kind.Definition()}, d)
	k.mu.Lock()
	defer k.mu.Unlock()
	s.defined = s.defined || err == nil
	return !s.defined || err == nil && d.DeletionTimestamp == nil
}

func (k *Kinds) cacheOf(kind Kind) cache.Cache {
	if kind.Foreign {
		return k.foreign
	}
	return k.own
}

func (k *Kinds) watch(ctx context.Context, kind Kind) error {
	ctx, cancel := context.WithTimeout(ctx, syncIn)
	defer cancel()
	c := k.cacheOf(kind)
	informer, err := c.GetInformer(ctx, kind.New())
	if err == nil {
		_, err = informer.AddEventHandler(k.handler(kind.GroupVersionKind))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("watching %s: %w", kind.Plural, err), c.RemoveInformer(ctx, kind.New()))
	}
	return nil
}

// Readable is nil when objects of the kind can be read, else [ErrNotServed], which may be [ErrUnsure], or
// [ErrForbidden].
func (k *Kinds) Readable(ctx context.Context, kind Kind) error {
	select {
	case <-k.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	k.mu.Lock()
	s, known := k.states[kind.GroupVersionKind]
	if !known {
		k.mu.Unlock()
		return fmt.Errorf("%s is not one of the optional kinds", kind.Kind)
	}
	err, old := s.err, k.now().Sub(s.looked) > lookEvery
	if err != nil && old {
		s.looked = k.now()
	}
	k.mu.Unlock()
	// Without a watch of definitions, and after a change of a role, nobody tells.
	if err != nil && old && (len(k.options.Namespaces) > 0 || errors.Is(err, ErrForbidden)) {
		k.looks.Add(kind.GroupVersionKind)
	}
	return err
}

// Get reads an object from the cache. It fails as [Kinds.Readable] says, or as a cache's Get does.
func (k *Kinds) Get(ctx context.Context, kind Kind, key client.ObjectKey, into *unstructured.Unstructured) error {
	if err := k.Readable(ctx, kind); err != nil {
		return err
	}
	into.SetGroupVersionKind(kind.GroupVersionKind)
	return k.cacheOf(kind).Get(ctx, key, into)
}

// List reads objects of the kind from the cache, like [Kinds.Get].
func (k *Kinds) List(ctx context.Context, kind Kind, options ...client.ListOption) ([]unstructured.Unstructured, error) {
	if err := k.Readable(ctx, kind); err != nil {
		return nil, err
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind.GroupVersionKind)
	if err := k.cacheOf(kind).List(ctx, list, options...); err != nil {
		return nil, err
	}
	return list.Items, nil
}
