package appview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/recorder"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/accounts"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/conditions"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/internal/usersecret"
	"atcr.io/operator/controllers/render"
)

// refusedRetry is how long an object that the API server or another owner refuses is left alone. What is in the way is
// mostly not watched.
const refusedRetry = 5 * time.Minute

// predecessorRetry is for what an earlier AppView of the same name owned; the watch mostly comes first.
const predecessorRetry = 5 * time.Second

// Options say what surrounds the controller.
type Options struct {
	Defaults render.Defaults
	// Namespaces that are watched; empty: all. With names, labels of namespaces are not looked at.
	Namespaces []string
	// Readiness asks servers which keys they have.
	Readiness Readiness
	// WatchedSecrets knows the users' Secrets with [v1alpha1.LabelWatch].
	WatchedSecrets cache.Cache
	// UserSecrets reads the others too; both controllers share it, so that each Secret is read once.
	UserSecrets *usersecret.Reader
	// Now is the operator's clock.
	Now func() time.Time
	// Operator is the operator's own pods; nil: it runs elsewhere.
	Operator *render.Peer
	// RestrictPods refuses specs that decide what runs in the pods.
	RestrictPods bool
	// Accounts of others, which copied pull secrets are put into.
	Accounts *accounts.Accounts
	// Kinds that the cluster may not serve.
	Kinds *optional.Kinds
}

// Reconciler brings one AppView at a time to what its spec asks for.
type Reconciler struct {
	client  client.Client // reads from the cache
	live    client.Reader // reads from the API server
	applier *apply.Applier
	events  recorder.EventRecorder
	metrics *metrics
	servers *servers

	services *services

	userSecrets *usersecret.Reader
	options     Options
	now         func() time.Time
}

// step is a part of a reconcile. One that fails keeps the Deployment as it is, and holds up no other step but for those
// behind a vital one.
type step struct {
	name string
	run  func(*Reconciler, context.Context, *scope) error
	when when
}

type when string

const (
	vital  when = "vital"  // what comes after it goes by what it finds
	always when = "always" // even after a vital step has failed
)

// The steps of a reconcile. Ready sums up parts in this order; see [scope.parts].
var (
	steps = []step{
		{"validate the spec", (*Reconciler).validate, vital},
		{"make the keys", (*Reconciler).secrets, ""},
		{"decide about holds", (*Reconciler).holds, vital},
		{"prepare the database", (*Reconciler).database, ""},
		{"make the network policy", (*Reconciler).networkPolicy, ""},
		{"make the service account", (*Reconciler).account, ""},
		{"make the service", (*Reconciler).service, vital},
		{"write the runtime file", (*Reconciler).runtime, ""},
		{"make the deployment", (*Reconciler).deployment, ""},
		{"make the autoscaler", (*Reconciler).autoscaler, ""},
		{"make the disruption budget", (*Reconciler).budget, ""},
		{"look at the pods", (*Reconciler).observe, always},
		{"look at the backups", (*Reconciler).backups, ""},
		{"expose the service", (*Reconciler).expose, ""},
		{"have it monitored", (*Reconciler).monitoring, ""},
		{"help nodes pull", (*Reconciler).clusterPull, ""},
	}
	parts = []string{
		v1alpha1.ConditionAccepted, v1alpha1.ConditionKeysReady, v1alpha1.ConditionDefaultHoldResolved,
		v1alpha1.ConditionAvailable, v1alpha1.ConditionDatabaseReady,
	}
	// evented are the conditions whose changes are events.
	evented = append([]string{v1alpha1.ConditionReady, v1alpha1.ConditionHoldsHealthy, v1alpha1.ConditionExposed,
		v1alpha1.ConditionClusterPullReady, v1alpha1.ConditionBackupCurrent, v1alpha1.ConditionMonitored}, parts...)
)

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	av := &v1alpha1.AppView{}
	if err := r.client.Get(ctx, req.NamespacedName, av); apierrors.IsNotFound(err) {
		r.metrics.forget(req.NamespacedName)
		r.servers.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading the AppView: %w", err)
	}
	if !av.DeletionTimestamp.IsZero() {
		return r.finalize(ctx, av)
	}
	sc := newScope(av, r.options.Defaults, metav1.NewTime(r.now().Truncate(time.Second)))
	if av.Spec.Reconciliation == v1alpha1.Suspended {
		sc.conditions.Suspend()
		return ctrl.Result{}, r.writeStatus(ctx, sc)
	}
	if controllerutil.ContainsFinalizer(av, v1alpha1.Finalizer) {
		return r.reconcile(ctx, sc)
	}
	before := av.DeepCopy()
	controllerutil.AddFinalizer(av, v1alpha1.Finalizer)
	err := r.client.Patch(ctx, av, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), apply.FieldOwner)
	switch {
	case movedOn(err):
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("adding the finalizer: %w", err)
	}
	return r.reconcile(ctx, sc)
}

func (r *Reconciler) reconcile(ctx context.Context, sc *scope) (ctrl.Result, error) {
	over := false
	for _, step := range steps {
		if over && step.when != always {
			continue
		}
		if err := step.run(r, ctx, sc); err != nil {
			sc.fail(step.name, err)
			over = over || step.when == vital
		}
	}
	result, retry := sc.summarize()
	if err := r.writeStatus(ctx, sc); err != nil {
		if movedOn(err) {
			return ctrl.Result{RequeueAfter: time.Second}, nil
		}
		return ctrl.Result{}, err
	}
	return result, retry
}

// movedOn says whether a write failed because the object was changed, replaced or deleted meanwhile.
func movedOn(err error) bool { return apierrors.IsConflict(err) || apierrors.IsNotFound(err) }

// fail notes that a step has failed, and when to come back. Of one condition the first failure counts.
func (sc *scope) fail(step string, err error) {
	sc.failed = true
	if s, ok := outcome.IsStalled(err); ok {
		if kind := cmp.Or(s.Condition, v1alpha1.ConditionAccepted); !slices.Contains(sc.refused, kind) {
			sc.refused = append(sc.refused, kind)
			sc.conditions.False(kind, s.Reason, s.Error())
		}
		sc.stalled = true
		sc.again(sc.retryStalled)
		return
	}
	err = fmt.Errorf("%s: %w", step, err)
	sc.retry = cmp.Or(sc.retry, err.Error())
	if w, ok := outcome.IsWaiting(err); ok {
		sc.again(w.After)
		return
	}
	sc.errs = append(sc.errs, err)
}

// summarize turns what the steps found into Ready, Reconciling and Stalled, and says when to come back. The error it
// returns is one that is tried again with a growing delay.
func (sc *scope) summarize() (ctrl.Result, error) {
	sc.conditions.Summarize(sc.parts(), sc.stalled && sc.retry == "", sc.retry)
	if len(sc.errs) > 0 {
		return ctrl.Result{}, errors.Join(sc.errs...)
	}
	return ctrl.Result{RequeueAfter: sc.requeue}, nil
}

// parts are what Ready sums up, the most important first: a database that keeps the server from running comes before the
// server that does not run, and so does a certificate.
func (sc *scope) parts() []string {
	out := slices.Clone(parts)
	if c := sc.conditions.Get(v1alpha1.ConditionDatabaseReady); c != nil && slices.Contains(databaseIsTheCause, c.Reason) {
		at := len(out) - 1
		out[at-1], out[at] = out[at], out[at-1]
	}
	switch at := slices.Index(out, v1alpha1.ConditionAvailable); {
	case sc.certificate.unfit:
		out = slices.Insert(out, at, v1alpha1.ConditionExposed)
	case len(render.ExposedHosts(sc.appView)) > 0 || sc.settings.TLSSecret != "":
		out = append(out, v1alpha1.ConditionExposed)
	}
	return out
}

var databaseIsTheCause = []string{
	v1alpha1.ReasonCredentialsNotFound, v1alpha1.ReasonCredentialsInvalid, v1alpha1.ReasonConnectionFailed, v1alpha1.ReasonSchemaTooNew,
	v1alpha1.ReasonClaimNotFound, v1alpha1.ReasonClaimLost, v1alpha1.ReasonClaimNotOwned, v1alpha1.ReasonNotPermitted,
	v1alpha1.ReasonStorageFull,
}

func transitions(before, after []metav1.Condition) []conditions.Transition {
	// Ready repeats the reason of another condition when it is false: only its becoming true is news.
	var out []conditions.Transition
	for _, t := range conditions.Transitions(before, after, evented) {
		if t.Type != v1alpha1.ConditionReady || t.Status == metav1.ConditionTrue {
			out = append(out, t)
		}
	}
	return out
}
