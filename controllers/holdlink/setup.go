package holdlink

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/links"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/probe"
)

// What the controller may do. config/rbac/role.yaml is generated from here.
//
// +kubebuilder:rbac:groups=operator.atcr.io,resources=holdlinks,verbs=get;list;watch
// +kubebuilder:rbac:groups=operator.atcr.io,resources=holdlinks/status,verbs=patch
// +kubebuilder:rbac:groups=operator.atcr.io,resources=appviews,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=services;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,resourceNames=kubernetes,verbs=get
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=referencegrants,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

const controllerName = "holdlink"

// New returns a Reconciler that works through mgr.
func New(mgr ctrl.Manager, resolver *Resolver, prober *probe.Prober, registry prometheus.Registerer, o Options) (*Reconciler, error) {
	m, err := newMetrics(registry)
	if err != nil {
		return nil, err
	}
	return &Reconciler{
		client: mgr.GetClient(), resolver: resolver, prober: prober,
		userSecrets: o.UserSecrets,
		events:      mgr.GetEventRecorder("atcr-operator"), metrics: m, options: o, now: time.Now,
	}, nil
}

// SetupWithManager registers the controller and what it watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, o controller.Options) error {
	b := ctrl.NewControllerManagedBy(mgr).Named(controllerName).WithOptions(o).
		For(&v1alpha1.HoldLink{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.AppView{}, handler.EnqueueRequestsFromMapFunc(r.byAppView), builder.WithPredicates(appViewChanged())).
		// Links with the same DID decide among themselves which one counts.
		Watches(&v1alpha1.HoldLink{}, handler.EnqueueRequestsFromMapFunc(r.byDID), builder.WithPredicates(didChanged())).
		WatchesRawSource(source.Channel(r.prober.Events(), &handler.EnqueueRequestForObject{})).
		WatchesRawSource(r.options.Kinds.Source(optional.Handler{Object: r.byGrant, Served: r.byGrants})).
		WatchesRawSource(source.Kind(r.options.WatchedSecrets, &corev1.Secret{},
			handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, s *corev1.Secret) []reconcile.Request { return r.bySecret(ctx, s) })))
	if len(r.options.Namespaces) == 0 {
		b = b.WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.byNamespace),
			builder.WithPredicates(predicate.LabelChangedPredicate{}))
	}
	return b.Complete(r)
}

func (r *Reconciler) byAppView(ctx context.Context, o client.Object) []reconcile.Request {
	all, err := links.Of(ctx, r.client, client.ObjectKeyFromObject(o))
	if err != nil {
		return nil
	}
	return requests(all)
}

func (r *Reconciler) byNamespace(ctx context.Context, o client.Object) []reconcile.Request {
	var list v1alpha1.HoldLinkList
	if err := r.client.List(ctx, &list, client.InNamespace(o.GetName())); err != nil {
		return nil
	}
	return requests(list.Items)
}

// byGrant finds the links that a ReferenceGrant may concern.
func (r *Reconciler) byGrant(ctx context.Context, kind schema.GroupVersionKind, o client.Object) []reconcile.Request {
	if kind != optional.ReferenceGrant.GroupVersionKind {
		return nil
	}
	return r.foreign(ctx, o.GetNamespace())
}

// byGrants finds the links that need grants at all.
func (r *Reconciler) byGrants(ctx context.Context, kind schema.GroupVersionKind) []reconcile.Request {
	if kind != optional.ReferenceGrant.GroupVersionKind {
		return nil
	}
	return r.foreign(ctx, "")
}

// foreign finds the links to a Service of that namespace, or of any, that is not their own.
func (r *Reconciler) foreign(ctx context.Context, namespace string) []reconcile.Request {
	var list v1alpha1.HoldLinkList
	if err := r.client.List(ctx, &list); err != nil {
		return nil
	}
	return requests(slices.DeleteFunc(list.Items, func(l v1alpha1.HoldLink) bool {
		s, named := r.resolver.service(&l)
		return !named || s.Namespace == l.Namespace || namespace != "" && s.Namespace != namespace
	}))
}

// bySecret finds the links that trust the certificates in a Secret.
func (r *Reconciler) bySecret(ctx context.Context, s *corev1.Secret) []reconcile.Request {
	r.userSecrets.Forget(client.ObjectKeyFromObject(s))
	var list v1alpha1.HoldLinkList
	if err := r.client.List(ctx, &list, client.InNamespace(s.Namespace)); err != nil {
		return nil
	}
	return requests(slices.DeleteFunc(list.Items, func(l v1alpha1.HoldLink) bool {
		ref := l.Spec.Trust.CABundleSecretRef
		return ref == nil || string(ref.Name) != s.Name
	}))
}

// byDID finds the links of the same AppView with the same DID, if there is another one: the link itself too, whose own
// reconcile could not see that another has it. One that is deleted, or has another DID now, is not among them.
func (r *Reconciler) byDID(ctx context.Context, o client.Object) []reconcile.Request {
	link := o.(*v1alpha1.HoldLink)
	all, err := links.Of(ctx, r.client, links.AppViewOf(link))
	if err != nil || link.Status.DID == "" {
		return nil
	}
	same := slices.DeleteFunc(all, func(l v1alpha1.HoldLink) bool { return l.Status.DID != link.Status.DID })
	if len(same) == 1 && links.Key(&same[0]) == links.Key(link) {
		return nil
	}
	return requests(same)
}

func requests(all []v1alpha1.HoldLink) []reconcile.Request {
	out := make([]reconcile.Request, len(all))
	for i := range all {
		out[i].NamespacedName = links.Key(&all[i])
	}
	return out
}

// appViewChanged lets through what a HoldLink reads of its AppView.
func appViewChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		a, b := e.ObjectOld.(*v1alpha1.AppView), e.ObjectNew.(*v1alpha1.AppView)
		return a.Generation != b.Generation || !equality.Semantic.DeepEqual(a.Status.DefaultHold, b.Status.DefaultHold) ||
			!equality.Semantic.DeepEqual(told(a), told(b))
	}}
}

// told is the links of an AppView without their health, which comes from the HoldLinks in the first place.
func told(av *v1alpha1.AppView) []string {
	var out []string
	for _, l := range av.Status.Links {
		out = append(out, fmt.Sprintf("%s/%s %s %d", l.Namespace, l.Name, l.DID, l.ObservedGeneration))
	}
	return out
}

func didChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, // it has no DID yet, or its own reconcile comes
		UpdateFunc: func(e event.UpdateEvent) bool {
			a, b := e.ObjectOld.(*v1alpha1.HoldLink).Status, e.ObjectNew.(*v1alpha1.HoldLink).Status
			return a.DID != b.DID || (a.LastResolvedTime == nil) != (b.LastResolvedTime == nil)
		},
	}
}
