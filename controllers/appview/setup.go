package appview

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
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
	"atcr.io/operator/controllers/internal/accounts"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/links"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/render"
)

// What the controller may do. config/rbac/role.yaml is generated from here; config/rbac/README.md says why each is
// needed.
//
// +kubebuilder:rbac:groups=operator.atcr.io,resources=appviews,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=operator.atcr.io,resources=appviews/status,verbs=patch
// +kubebuilder:rbac:groups=operator.atcr.io,resources=appviews/finalizers,verbs=update
// +kubebuilder:rbac:groups=operator.atcr.io,resources=holdlinks,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=configmaps;services;serviceaccounts,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=delete
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses;networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=servicemonitors,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

const controllerName = "appview"

// New returns a Reconciler that works through mgr.
func New(mgr ctrl.Manager, applier *apply.Applier, registry prometheus.Registerer, o Options) (*Reconciler, error) {
	m, err := newMetrics(registry)
	if err != nil {
		return nil, err
	}
	return &Reconciler{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), applier: applier,
		events: mgr.GetEventRecorder("atcr-operator"), metrics: m, options: o, now: o.Now,
		services:    &services{live: mgr.GetAPIReader(), now: time.Now, seen: map[client.ObjectKey]seenService{}},
		servers:     newServers(mgr.GetClient(), o.Readiness),
		userSecrets: o.UserSecrets,
	}, nil
}

// SetupWithManager registers the controller and what it watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, o controller.Options) error {
	b := ctrl.NewControllerManagedBy(mgr).Named(controllerName).WithOptions(o).
		For(&v1alpha1.AppView{}, builder.WithPredicates(predicate.Or(r.asked(), predicate.GenerationChangedPredicate{}, deletion()))).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&networkingv1.Ingress{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Owns(&corev1.ServiceAccount{}).
		Owns(&autoscalingv2.HorizontalPodAutoscaler{}, builder.WithPredicates(autoscalerChanged())).
		Owns(&policyv1.PodDisruptionBudget{}, builder.WithPredicates(budgetChanged())).
		// These carry no owner reference: retained things must not be collected, pods belong to a ReplicaSet, and what is in
		// another namespace can have none.
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(byOwnerElsewhere)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(byLabel)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(byOwnerElsewhere)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byLabel), builder.WithPredicates(podTroubleChanged())).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(r.byClaim)).
		Watches(&v1alpha1.HoldLink{}, handler.EnqueueRequestsFromMapFunc(byLink), builder.WithPredicates(linkChanged())).
		WatchesRawSource(r.options.Kinds.Source(optional.Handler{
			Object: func(ctx context.Context, _ schema.GroupVersionKind, o client.Object) []reconcile.Request {
				return byLabel(ctx, o)
			},
			Served: r.byKind,
		})).
		WatchesRawSource(source.Kind(r.options.WatchedSecrets, &corev1.Secret{},
			handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, s *corev1.Secret) []reconcile.Request { return r.bySecret(ctx, s) })))
	b = b.WatchesRawSource(r.options.Accounts.Source(r.byAccount))
	if len(r.options.Namespaces) == 0 {
		b = b.WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.bySelector),
			builder.WithPredicates(predicate.LabelChangedPredicate{}))
	}
	return b.Complete(r)
}

// autoscalerChanged leaves out the status, which changes every few seconds.
func autoscalerChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		a, b := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler), e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
		return !equality.Semantic.DeepEqual(a.Spec, b.Spec) || !equality.Semantic.DeepEqual(a.Labels, b.Labels) ||
			!equality.Semantic.DeepEqual(a.Annotations, b.Annotations) || !equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences) ||
			a.DeletionTimestamp.IsZero() != b.DeletionTimestamp.IsZero()
	}}
}

// budgetChanged leaves out the status, which changes with every pod.
func budgetChanged() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}, deletion())
}

// asked lets through what a user asks for by annotation. What the user changed just before is looked at then: Secrets that
// are not watched are read again.
func (r *Reconciler) asked() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		for _, a := range []string{v1alpha1.AnnotationReconcile, v1alpha1.AnnotationRotate, v1alpha1.AnnotationRotateOAuth} {
			if e.ObjectOld.GetAnnotations()[a] != e.ObjectNew.GetAnnotations()[a] {
				for _, name := range render.NamedSecrets(e.ObjectNew.(*v1alpha1.AppView)) {
					r.userSecrets.Forget(client.ObjectKey{Namespace: e.ObjectNew.GetNamespace(), Name: name})
				}
				return true
			}
		}
		return false
	}}
}

func deletion() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return !o.GetDeletionTimestamp().IsZero() })
}

// byOwnerElsewhere finds the AppView that an object in another namespace belongs to.
func byOwnerElsewhere(_ context.Context, o client.Object) []reconcile.Request {
	l := o.GetLabels()
	if l[v1alpha1.LabelOwnerName] == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: l[v1alpha1.LabelOwnerNamespace], Name: l[v1alpha1.LabelOwnerName]}}}
}

// byLabel finds the AppView that an object names in its label.
func byLabel(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetLabels()[v1alpha1.LabelAppView]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
}

// byClaim finds the AppView that a claim was made for, and those that name it in existingClaim: it may be one that
// another AppView left behind.
func (r *Reconciler) byClaim(ctx context.Context, o client.Object) []reconcile.Request {
	out := byLabel(ctx, o)
	var list v1alpha1.AppViewList
	if err := r.client.List(ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexClaims: o.GetName()}); err != nil {
		return out
	}
	for _, av := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&av)})
	}
	return out
}

// bySecret finds the AppViews whose spec names a Secret of the user's.
func (r *Reconciler) bySecret(ctx context.Context, s *corev1.Secret) []reconcile.Request {
	r.userSecrets.Forget(client.ObjectKeyFromObject(s))
	var list v1alpha1.AppViewList
	if err := r.client.List(ctx, &list, client.InNamespace(s.Namespace), client.MatchingFields{indexSecrets: s.Name}); err != nil {
		return nil
	}
	var trusting v1alpha1.HoldLinkList
	if err := r.client.List(ctx, &trusting, client.InNamespace(s.Namespace)); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range trusting.Items {
		if ref := trusting.Items[i].Spec.Trust.CABundleSecretRef; ref != nil && string(ref.Name) == s.Name {
			out = append(out, reconcile.Request{NamespacedName: links.AppViewOf(&trusting.Items[i])})
		}
	}
	for _, av := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&av)})
	}
	return out
}

// byKind finds the AppViews whose spec needs a kind that the cluster may not serve.
func (r *Reconciler) byKind(ctx context.Context, kind schema.GroupVersionKind) []reconcile.Request {
	var list v1alpha1.AppViewList
	if err := r.client.List(ctx, &list); err != nil {
		return nil
	}
	var out []reconcile.Request
	for _, av := range list.Items {
		if av.Spec.Monitoring.ServiceMonitor != v1alpha1.ServiceMonitorDisabled && kind == optional.ServiceMonitor.GroupVersionKind ||
			av.Spec.Exposure.Gateway != nil && kind == optional.HTTPRoute.GroupVersionKind ||
			kind == optional.Certificate.GroupVersionKind && needsCertificates(&av) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&av)})
		}
	}
	return out
}

func needsCertificates(av *v1alpha1.AppView) bool {
	t := av.Spec.Exposure.TLS
	return av.Spec.Keys.Signing.Source == v1alpha1.KeyCertManager || t != nil && t.CertManager != nil
}

func byLink(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: links.AppViewOf(o.(*v1alpha1.HoldLink))}}
}

// byAccount finds the AppViews whose pull secret a service account names, or is to name.
func (r *Reconciler) byAccount(ctx context.Context, account *corev1.ServiceAccount) []reconcile.Request {
	var out []reconcile.Request
	for _, owner := range accounts.Entries(account) {
		if namespace, name, ok := strings.Cut(owner, "/"); ok {
			out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
		}
	}
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.client.Get(ctx, client.ObjectKey{Name: account.Namespace}, ns); err != nil || ns.Labels[v1alpha1.LabelPullSecretsFrom] == "" {
		return out
	}
	var list v1alpha1.AppViewList
	if err := r.client.List(ctx, &list, client.InNamespace(ns.Labels[v1alpha1.LabelPullSecretsFrom])); err != nil {
		return out
	}
	for _, av := range list.Items {
		if p := render.PullSecrets(&av); p != nil && slices.Contains(render.PullAccounts(p), v1alpha1.ObjectName(account.Name)) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&av)})
		}
	}
	return out
}

// bySelector finds the AppViews for which the labels of namespaces count.
func (r *Reconciler) bySelector(ctx context.Context, _ client.Object) []reconcile.Request {
	var list v1alpha1.AppViewList
	if err := r.client.List(ctx, &list); err != nil {
		return nil
	}
	var out []reconcile.Request
	for _, av := range list.Items {
		if links.NeedsLabels(&av) || render.PullSecrets(&av) != nil {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&av)})
		}
	}
	return out
}

// linkChanged lets through what an AppView reads of a HoldLink, so that conditions and probe times of links cost their
// AppView nothing. Nor does a link that is new: what there is to read of it comes with its first status.
func linkChanged() predicate.Predicate {
	return predicate.Funcs{CreateFunc: func(e event.CreateEvent) bool {
		return e.Object.(*v1alpha1.HoldLink).Status.ObservedGeneration > 0
	}, UpdateFunc: func(e event.UpdateEvent) bool {
		a, b := e.ObjectOld.(*v1alpha1.HoldLink), e.ObjectNew.(*v1alpha1.HoldLink)
		return a.Generation != b.Generation || a.Status.ObservedGeneration != b.Status.ObservedGeneration || a.Status.DID != b.Status.DID || a.Status.Endpoint != b.Status.Endpoint ||
			a.Status.Download != b.Status.Download || resolution(a) != resolution(b) || a.Status.Health.State != b.Status.Health.State ||
			!equality.Semantic.DeepEqual(a.Status.Health.Since, b.Status.Health.Since)
	}}
}

// resolution is the reason of a HoldLink's condition Resolved, by which a default hold counts as taken back.
func resolution(l *v1alpha1.HoldLink) string {
	c := meta.FindStatusCondition(l.Status.Conditions, v1alpha1.ConditionResolved)
	if c == nil {
		return ""
	}
	return c.Reason
}

// podTroubleChanged lets through a pod whose trouble, or lack of it, is news. All else about pods is in the
// Deployment's status.
func podTroubleChanged() predicate.Predicate {
	trouble := func(o client.Object) available {
		a, _ := podTrouble([]corev1.Pod{*o.(*corev1.Pod)})
		return a
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return trouble(e.Object) != available{} },
		DeleteFunc: func(e event.DeleteEvent) bool {
			return trouble(e.Object) != available{} || render.IsTrial(e.Object.(*corev1.Pod))
		},
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			return trouble(before) != trouble(after) || render.IsTrial(after) &&
				(before.Status.Phase != after.Status.Phase || (trialEnd(before) == nil) != (trialEnd(after) == nil))
		},
	}
}
