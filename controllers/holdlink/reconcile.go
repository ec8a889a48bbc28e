package holdlink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/recorder"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/conditions"
	"atcr.io/operator/controllers/internal/links"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/internal/usersecret"
	"atcr.io/operator/controllers/probe"
)

// Options say what surrounds the controller.
type Options struct {
	// Namespaces that are watched; empty: all. With names, labels of namespaces are not looked at.
	Namespaces []string
	// WatchedSecrets knows the users' Secrets with [v1alpha1.LabelWatch].
	WatchedSecrets cache.Cache
	// UserSecrets reads the others too; both controllers share it, so that each Secret is read once.
	UserSecrets *usersecret.Reader
	// Kinds that the cluster may not serve.
	Kinds *optional.Kinds
}

// Reconciler looks after one HoldLink at a time.
type Reconciler struct {
	client   client.Client // reads from the cache
	resolver *Resolver
	prober   *probe.Prober
	events   recorder.EventRecorder
	metrics  *metrics
	options  Options
	now      func() time.Time

	userSecrets *usersecret.Reader
}

// The steps of a reconcile. Ready sums up parts in this order.
var (
	steps = []struct {
		name string
		run  func(*Reconciler, context.Context, *scope) error
	}{
		{"validate the spec", (*Reconciler).validate},
		{"ask the AppView", (*Reconciler).admit},
		{"look for consent and trust", (*Reconciler).consent},
		{"resolve the hold", (*Reconciler).resolve},
		{"look at its health", (*Reconciler).health},
		{"see whether the server was told", (*Reconciler).programmed},
	}
	parts   = []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionResolved, v1alpha1.ConditionProgrammed}
	evented = []string{v1alpha1.ConditionReady, v1alpha1.ConditionAccepted, v1alpha1.ConditionResolved, v1alpha1.ConditionHealthy}
)

// scope is one reconcile of one HoldLink.
type scope struct {
	link       *v1alpha1.HoldLink // not written to
	appView    *v1alpha1.AppView  // nil: there is none
	conditions *conditions.Set
	status     v1alpha1.HoldLinkStatus // all but the conditions
	now        metav1.Time

	callable bool          // both sides agree, so the operator may call the hold
	refused  refusal       // why the hold may not be called though both sides agree
	access   access        // what the operator may use to call it
	stalled  bool          // a step found what only the user can change
	again    time.Duration // when to look again; zero: when something changes
	awaited  time.Duration // how long the hold's first answer may still take before status says that there is none
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	link := &v1alpha1.HoldLink{}
	err := r.client.Get(ctx, req.NamespacedName, link)
	if apierrors.IsNotFound(err) || err == nil && !link.DeletionTimestamp.IsZero() {
		r.forget(req.NamespacedName)
		r.metrics.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	now := metav1.NewTime(r.now().Truncate(time.Second))
	sc := &scope{link: link, conditions: conditions.New(link.Status.Conditions, link.Generation, now), status: *link.Status.DeepCopy(), now: now}
	sc.status.ObservedGeneration = link.Generation
	sc.status.Conditions = nil
	if link.Spec.Reconciliation == v1alpha1.Suspended {
		r.forget(req.NamespacedName)
		sc.conditions.Suspend()
		return ctrl.Result{}, r.writeStatus(ctx, sc)
	}

	var failed error
	for _, step := range steps {
		if err := step.run(r, ctx, sc); err != nil {
			failed = fmt.Errorf("%s: %w", step.name, err)
			break
		}
	}
	if failed == nil && sc.awaited > 0 {
		return ctrl.Result{RequeueAfter: sc.awaited}, nil // or sooner: the prober says when it knows
	}
	_, stalled := outcome.IsStalled(failed)
	switch {
	case failed == nil || stalled:
		sc.conditions.Summarize(parts, sc.stalled || stalled, "")
		failed = nil
	default:
		sc.conditions.Summarize(parts, false, failed.Error())
	}
	if err := r.writeStatus(ctx, sc); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return ctrl.Result{RequeueAfter: time.Second}, nil // the object moved on under us
		}
		return ctrl.Result{}, errors.Join(failed, err)
	}
	return ctrl.Result{RequeueAfter: sc.again}, failed
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.prober.Forget(key)
	r.resolver.Forget(key)
}

// validate refuses a spec that cannot work.
func (r *Reconciler) validate(_ context.Context, sc *scope) error {
	if errs := v1alpha1.ValidateHoldLink(sc.link); len(errs) > 0 {
		err := errs.ToAggregate()
		sc.conditions.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalidSpec, err.Error())
		return outcome.Stall(v1alpha1.ReasonInvalidSpec, "%w", err)
	}
	return nil
}

// admit asks whether the AppView takes the link, by the same functions that the AppView controller uses.
func (r *Reconciler) admit(ctx context.Context, sc *scope) error {
	ref := links.AppViewOf(sc.link)
	if watched := r.options.Namespaces; len(watched) > 0 && !slices.Contains(watched, ref.Namespace) {
		sc.stalled = true
		sc.conditions.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonAppViewNotFound, fmt.Sprintf(
			"spec.appViewRef names AppView %s, and this operator does not watch namespace %s: add it to --watch-namespaces", ref, ref.Namespace))
		return nil
	}
	av := &v1alpha1.AppView{}
	if err := r.client.Get(ctx, ref, av); apierrors.IsNotFound(err) {
		sc.conditions.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonAppViewNotFound, fmt.Sprintf(
			"spec.appViewRef names AppView %s, which does not exist: create it, or create a HoldLink that names another", ref))
		return nil
	} else if err != nil {
		return fmt.Errorf("reading AppView %s: %w", ref, err)
	}
	sc.appView = av
	all, err := links.Of(ctx, r.client, ref)
	if err != nil {
		return err
	}
	var labels map[string]map[string]string
	if links.NeedsLabels(av) && len(r.options.Namespaces) == 0 {
		if labels, err = links.NamespaceLabels(ctx, r.client, all); err != nil {
			return err
		}
	}
	d, known := links.Decide(av, all, labels)[links.Key(sc.link)]
	if !known {
		return errors.New("the cache does not list this HoldLink yet")
	}
	if d.Accepted {
		sc.conditions.True(v1alpha1.ConditionAccepted, d.Reason, d.Message)
	} else {
		sc.stalled = true
		sc.conditions.False(v1alpha1.ConditionAccepted, d.Reason, d.Message)
	}
	sc.callable = d.Accepted || d.Reason == v1alpha1.ReasonDuplicateDID
	return nil
}

// programmed repeats what the AppView says it told its server.
func (r *Reconciler) programmed(_ context.Context, sc *scope) error {
	sc.status.IsDefaultFor = ""
	told := false
	if av := sc.appView; av != nil {
		for _, l := range av.Status.Links {
			told = told || l.Namespace == sc.link.Namespace && l.Name == sc.link.Name && l.DID == sc.status.DID && l.DID != "" &&
				asTold(av, l.ObservedGeneration, sc.link.Generation)
		}
		if d := av.Status.DefaultHold; told && d != nil && d.DID == sc.status.DID {
			sc.status.IsDefaultFor = av.Namespace + "/" + av.Name
		}
	}
	switch {
	case !told:
		sc.conditions.False(v1alpha1.ConditionProgrammed, v1alpha1.ReasonPending, "not every server of the AppView runs with this hold yet: if that lasts, see the conditions of the AppView")
	case sc.status.IsDefaultFor != "":
		sc.conditions.True(v1alpha1.ConditionProgrammed, v1alpha1.ReasonInUse, "this is the default hold of AppView "+sc.status.IsDefaultFor)
	default:
		sc.conditions.True(v1alpha1.ConditionProgrammed, v1alpha1.ReasonNotDefault, "the server knows this hold; users choose it in their profile")
	}
	return nil
}

// asTold says whether what servers were told of a link counts for one of that generation. An operator that knew no
// generations wrote none, and of a suspended AppView they stay as they are.
func asTold(av *v1alpha1.AppView, told, generation int64) bool {
	return told == generation || told == 0 || av.Spec.Reconciliation == v1alpha1.Suspended
}
