package appview

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/conditions"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// scope is one reconcile of one AppView: what is asked for, and what the steps find.
type scope struct {
	appView    *v1alpha1.AppView // not written to
	settings   render.Settings
	conditions *conditions.Set
	status     v1alpha1.AppViewStatus // all but the conditions
	now        metav1.Time

	keys       keysReport // what condition KeysReady will say
	keysUnfit  bool       // the server cannot be started with the keys as they are
	startFiles [][]byte   // secret bytes that the server reads at start

	databaseUnfit bool   // the server cannot be started with the database that the spec names
	otherDatabase bool   // the server that runs uses one of another type
	backupTrouble string // what is wrong with the claim for backups

	databasePlace string   // hosts of the PostgreSQL, without user; empty: not known
	holdEndpoints []string // of admitted HoldLinks

	certificate certificateReport // of exposure.tls

	consumed    string                      // their hash; empty: the keys are not ready
	holdRevoked bool                        // the default hold may not be named any more: the Deployment is left as it is
	told        *names.Runtime              // what the servers were told before; nil: nothing
	defaultHold *v1alpha1.DefaultHoldStatus // that the server is told; nil: none
	holds       []names.Hold                // that the server is told; CABundle is the certificates themselves
	links       []v1alpha1.LinkStatus       // the HoldLinks behind them
	runtimeHash string                      // of the file that says so; empty: none was written
	file        runtimeFile
	service     *corev1.Service    // as the cluster has it
	deployment  *appsv1.Deployment // as the API server answered; nil: it was not written to
	held        available          // why the Deployment stays as it is while another image is tried; the zero value: it does not

	failed  bool     // a step has failed: nothing is rolled out
	refused []string // conditions that are false because a step is stalled
	retry   string   // what the first step says that may succeed another time; empty: there is none
	errs    []error  // for which that is after a growing delay

	stalled      bool          // a step found what only the user can change
	retryStalled time.Duration // when to look again at what is refused; zero: when something changes
	requeue      time.Duration // when to look again in any case; zero: when something changes
}

func newScope(av *v1alpha1.AppView, defaults render.Defaults, now metav1.Time) *scope {
	sc := &scope{
		appView:      av,
		settings:     render.Resolve(av, defaults),
		conditions:   conditions.New(av.Status.Conditions, av.Generation, now),
		status:       *av.Status.DeepCopy(),
		now:          now,
		retryStalled: refusedRetry,
	}
	sc.status.ObservedGeneration = av.Generation
	sc.status.Conditions = nil
	sc.status.SecretExpirations = slices.DeleteFunc(sc.status.SecretExpirations, func(s v1alpha1.SecretExpiration) bool {
		return !slices.Contains(render.NamedSecrets(av), s.Name)
	})
	sc.status.LastHandledReconcileAt = sc.request(v1alpha1.AnnotationReconcile)
	return sc
}

// owned says whether an object is this AppView's to write.
func (sc *scope) owned(o metav1.Object) bool { return render.Owned(sc.appView, o) }

// mayWrite says why an object must not be written: it is somebody else's, or that of an AppView of the same name that is
// gone, and the garbage collector is about to take it.
func (sc *scope) mayWrite(kind string, o metav1.Object) error {
	switch ref := metav1.GetControllerOf(o); {
	case sc.owned(o):
		return nil
	case ref != nil && ref.Kind == "AppView" && ref.Name == sc.appView.Name:
		return outcome.Wait(v1alpha1.ReasonProgressing, predecessorRetry,
			"%s %s of an earlier AppView of this name is being deleted", kind, o.GetName())
	}
	return outcome.Stall(v1alpha1.ReasonNotPermitted,
		"%s %s exists and belongs to somebody else: rename the AppView, or delete or rename that %s", kind, o.GetName(), kind)
}

// expires notes when the certificate in a Secret ends; the zero time: there is none.
func (sc *scope) expires(secret string, end time.Time) {
	all := slices.DeleteFunc(sc.status.SecretExpirations, func(s v1alpha1.SecretExpiration) bool { return s.Name == secret })
	if !end.IsZero() {
		all = append(all, v1alpha1.SecretExpiration{Name: secret, NotAfter: metav1.NewTime(end)})
	}
	slices.SortFunc(all, func(a, b v1alpha1.SecretExpiration) int { return cmp.Compare(a.Name, b.Name) })
	sc.status.SecretExpirations = all
}

// key of an object in the AppView's namespace.
func (sc *scope) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: sc.appView.Namespace, Name: name}
}
