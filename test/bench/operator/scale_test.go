package operator

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

const (
	// Writes for one AppView on SQLite: its ten children and the finalizer, status once when all of them are there, and
	// once when the cluster has done its part.
	writesToStart, writesToReady = 12, 1

	interval, timeout, threshold = 10 * time.Second, time.Second, 1 // of the hold that fails
)

// scale is how much there is.
type scale struct{ appViews, foreignSecrets, changes int }

func TestTheOperatorAtScale(t *testing.T) {
	size := scale{appViews: 12, foreignSecrets: 100, changes: 12}
	if n, err := strconv.Atoi(os.Getenv("OPERATOR_N")); err == nil && n > 0 {
		size = scale{appViews: n, foreignSecrets: 5 * n, changes: min(n, 200)}
	}
	b := &bench{Env: controltest.New(t), scale: size}
	b.report("", "goal", "measured")
	defer func() { t.Logf("%d AppViews, %d HoldLinks:\n%s", size.appViews, size.appViews, b.table.String()) }()

	b.start()
	empty := b.heap()
	b.part("apply", b.fromApplyToReady)
	b.part("links", b.links)
	b.requests.Reset()
	b.report("heap per AppView with its HoldLink and children", "<= 40 KiB", fmt.Sprintf("%.1f KiB", float64(b.heap()-empty)/1024/float64(size.appViews)))
	b.part("rest", b.atRest)
	b.part("changes", b.changes)
	b.part("restart", b.restart)
	b.part("foreign", b.foreign)
	b.part("outage", b.outage)
}

// bench is the operator and what it looks after.
type bench struct {
	*controltest.Env
	scale      scale
	operator   *controltest.Operator
	requests   *controltest.Counter
	reconciles *controltest.Reconciles
	hold       *controltest.Hold
	table      strings.Builder
}

func (b *bench) report(what, goal, measured string) {
	fmt.Fprintf(&b.table, "  %-60s %-16s %s\n", what, goal, measured)
}

// start starts the operator, anew after the first time.
func (b *bench) start() {
	b.Helper()
	if b.operator != nil {
		b.operator.Stop()
		b.requests.Reset() // what a test remembers is nothing that the operator keeps
	}
	b.requests, b.reconciles = &controltest.Counter{}, &controltest.Reconciles{}
	b.operator = b.Operator(controltest.Everywhere(), controltest.Counted(b.requests), b.reconciles.Watch)
}

// heap is what is live after a collection.
func (b *bench) heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func name(i int) string { return fmt.Sprintf("registry-%04d", i) }

// each runs do for every number below n, eight at a time.
func (b *bench) each(n int, do func(i int) error) {
	b.Helper()
	jobs, errs := make(chan int), make(chan error, 8)
	for range cap(errs) {
		go func() {
			var first error
			for i := range jobs {
				if err := do(i); err != nil && first == nil {
					first = err
				}
			}
			errs <- first
		}()
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	for range cap(errs) {
		require.NoError(b, <-errs)
	}
}

// all waits until every AppView and HoldLink is as it should be, and returns since when the operator rests.
func (b *bench) all(what string, appView func(*v1alpha1.AppView) bool, link func(*v1alpha1.HoldLink) bool) time.Time {
	b.Helper()
	rests, done := b.idle(), b.begun() // before it rests, it is not done: a list of all costs as much as some of them
	b.Seldom(what, func() error {
		var views v1alpha1.AppViewList
		if err := b.Client.List(b.Context(), &views, client.InNamespace(b.Namespace)); err != nil {
			return err
		}
		n := 0
		for i := range views.Items {
			if a := &views.Items[i]; a.Status.ObservedGeneration == a.Generation && appView(a) {
				n++
			}
		}
		if n != b.scale.appViews {
			return fmt.Errorf("%d of %d AppViews", n, b.scale.appViews)
		}
		if link == nil {
			return nil
		}
		var links v1alpha1.HoldLinkList
		if err := b.Client.List(b.Context(), &links, client.InNamespace(b.Namespace)); err != nil {
			return err
		}
		n = 0
		for i := range links.Items {
			if l := &links.Items[i]; l.Status.ObservedGeneration == l.Generation && link(l) {
				n++
			}
		}
		if n != b.scale.appViews {
			return fmt.Errorf("%d of %d HoldLinks", n, b.scale.appViews)
		}
		return nil
	})
	if n := b.begun(); n != done {
		return b.idle()
	}
	return rests
}

// begun is how many reconciles there have been.
func (b *bench) begun() int { return b.reconciles.All("appview") + b.reconciles.All("holdlink") }

// idle waits until no reconcile has begun for a while, and returns when the last one did.
func (b *bench) idle() time.Time {
	b.Helper()
	last, since := 0, time.Now()
	b.Patiently("the operator rests", func() error {
		if n := b.begun(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < 500*time.Millisecond {
			return fmt.Errorf("%d reconciles so far", last)
		}
		return nil
	})
	return since
}

func is(all []metav1.Condition, kind string, status metav1.ConditionStatus, reason string) bool {
	c := meta.FindStatusCondition(all, kind)
	return c != nil && c.Status == status && (reason == "" || c.Reason == reason)
}

func ready(a *v1alpha1.AppView) bool {
	return is(a.Status.Conditions, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
}

// fromApplyToReady makes the AppViews. The cluster does its part while the operator is stopped, so that it is seen in one
// moment and each status is written as often as it must be.
func (b *bench) fromApplyToReady() {
	b.Helper()
	b.requests.Reset()
	begin, cpu := time.Now(), cpuTime(b)
	b.each(b.scale.appViews, func(i int) error {
		av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name(i)}}
		av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"}
		return b.Client.Create(b.Context(), av)
	})
	rests := b.all("every AppView has its children", func(a *v1alpha1.AppView) bool {
		return is(a.Status.Conditions, v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonProgressing)
	}, nil)
	b.report("burst of AppViews to all children there", "<= 25 s", seconds(rests.Sub(begin)))
	b.spent("one of them", cpu, b.scale.appViews)
	started := len(b.requests.Writes())
	require.Equal(b, writesToStart*b.scale.appViews, started, "%s", kinds(b.requests.Writes()))

	b.operator.Stop()
	b.Kubelet()
	b.Patiently("the cluster has done its part", func() error {
		var all appsv1.DeploymentList
		if err := b.Client.List(b.Context(), &all, client.InNamespace(b.Namespace)); err != nil {
			return err
		}
		var claims corev1.PersistentVolumeClaimList
		if err := b.Client.List(b.Context(), &claims, client.InNamespace(b.Namespace)); err != nil {
			return err
		}
		for _, d := range all.Items {
			if d.Status.AvailableReplicas != 1 {
				return fmt.Errorf("Deployment %s is not available", d.Name)
			}
		}
		for _, c := range claims.Items {
			if c.Status.Phase != corev1.ClaimBound {
				return fmt.Errorf("PersistentVolumeClaim %s is not bound", c.Name)
			}
		}
		return nil
	})
	b.start()
	b.all("every AppView is Ready", ready, nil)
	finished := len(b.requests.Writes())
	require.Equal(b, writesToReady*b.scale.appViews, finished, "%s", kinds(b.requests.Writes()))
	b.report("writes for one AppView from apply to Ready (children + 3)", strconv.Itoa(writesToStart+writesToReady),
		fmt.Sprintf("%g", float64(started+finished)/float64(b.scale.appViews)))
}

// links attaches a hold to each AppView.
func (b *bench) links() {
	b.Helper()
	b.hold = b.NewHold()
	b.requests.Reset()
	begin, cpu := time.Now(), cpuTime(b)
	b.each(b.scale.appViews, func(i int) error {
		l := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name(i)}}
		l.Spec.AppViewRef.Name = v1alpha1.ObjectName(name(i))
		l.Spec.Hold.DID, l.Spec.Endpoint = v1alpha1.DID(b.hold.DID), v1alpha1.Origin(b.hold.URL)
		return b.Client.Create(b.Context(), l)
	})
	rests := b.all("every HoldLink is healthy, and its AppView says so", func(a *v1alpha1.AppView) bool {
		return ready(a) && is(a.Status.Conditions, v1alpha1.ConditionHoldsHealthy, metav1.ConditionTrue, "")
	}, func(l *v1alpha1.HoldLink) bool {
		return is(l.Status.Conditions, v1alpha1.ConditionReady, metav1.ConditionTrue, "") &&
			is(l.Status.Conditions, v1alpha1.ConditionHealthy, metav1.ConditionTrue, "")
	})
	b.report("burst of HoldLinks to all healthy", "", seconds(rests.Sub(begin)))
	b.spent("one of them", cpu, b.scale.appViews)
	b.report("writes for one HoldLink from apply to healthy, its AppView's", "",
		fmt.Sprintf("%.1f (%s)", float64(len(b.requests.Writes()))/float64(b.scale.appViews), kinds(b.requests.Writes())))
}

// atRest brings every AppView back to the operator without changing anything that it wants: an annotation on an object
// that it owns. The writes are the test's.
func (b *bench) atRest() {
	b.Helper()
	b.requests.Reset()
	looks, asked := b.reconciles.All("appview"), b.hold.Asked.Load()
	before, cpu := reconcileTime(b), cpuTime(b)
	b.each(b.scale.appViews, func(i int) error {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name(i) + "-runtime"}}
		return b.Client.Patch(b.Context(), cm, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"bench":"1"}}}`)))
	})
	b.Patiently("every AppView was looked at", func() error {
		if n := b.reconciles.All("appview") - looks; n < b.scale.appViews {
			return fmt.Errorf("%d reconciles", n)
		}
		return nil
	})
	b.idle()
	n := b.reconciles.All("appview") - looks
	b.spent("one of them, with the test's write", cpu, b.scale.appViews)
	after := reconcileTime(b)
	require.Empty(b, b.requests.Requests())
	require.Zero(b, b.requests.Events())
	b.report("requests per steady reconcile", "0", fmt.Sprintf("0 (%d reconciles, %d checks of holds meanwhile)", n, b.hold.Asked.Load()-asked))
	b.report("steady reconcile, mean", "", after.since(before).Round(time.Microsecond).String())
}

// changes changes one AppView after the other, and looks when its Deployment follows.
func (b *bench) changes() {
	b.Helper()
	w, err := b.Client.Watch(b.Context(), &appsv1.DeploymentList{}, client.InNamespace(b.Namespace))
	require.NoError(b, err)
	defer w.Stop()
	var took, asked durations
	cpu := cpuTime(b)
	b.requests.Reset()
	for i := range b.scale.changes {
		av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name(i)}}
		begin := time.Now()
		require.NoError(b, b.Client.Patch(b.Context(), av, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"logging":{"level":"debug"}}}`))))
		asked = append(asked, time.Since(begin))
		for ev := range w.ResultChan() {
			if d, ok := ev.Object.(*appsv1.Deployment); ok && d.Name == name(i) && d.Generation == 2 {
				took = append(took, time.Since(begin))
				break
			}
		}
		b.AppView(name(i), "Ready=True")
	}
	require.Len(b, took, b.scale.changes)
	b.report("spec change to Deployment updated, p50 / p99", "<= 20 / 100 ms", fmt.Sprintf("%s / %s of %d", took.quantile(.5), took.quantile(.99), len(took)))
	b.report("  of it the API server's, p50", "", fmt.Sprintf("%s for the AppView, %s for the Deployment",
		asked.quantile(.5), durations(b.requests.Took(http.MethodPatch, "deployments")).quantile(.5)))
	b.spent("one of them", cpu, len(took))
	b.idle()
}

// restart starts the operator anew.
func (b *bench) restart() {
	b.Helper()
	b.operator.Stop()
	begin := time.Now()
	b.start()
	b.Patiently("everything was looked at", func() error {
		if views, links := b.reconciles.Objects("appview"), b.reconciles.Objects("holdlink"); views < b.scale.appViews || links < b.scale.appViews {
			return fmt.Errorf("%d AppViews, %d HoldLinks", views, links)
		}
		return nil
	})
	took := b.idle().Sub(begin)
	require.Empty(b, b.requests.Writes())
	require.Zero(b, b.requests.Events())
	b.report("restart to idle", "<= 3 s", fmt.Sprintf("%s, 0 writes, %d reads", seconds(took), len(b.requests.Requests())))
}

// foreign adds Secrets that are nothing of the operator's.
func (b *bench) foreign() {
	b.Helper()
	other := b.OtherNamespace(nil)
	before := b.heap()
	data := map[string][]byte{"content": []byte(strings.Repeat("x", 4<<10))}
	b.each(b.scale.foreignSecrets, func(i int) error {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: fmt.Sprint("foreign-", i)}, Data: data}
		return b.Client.Create(b.Context(), s)
	})
	b.idle()
	b.report(fmt.Sprintf("heap with %d foreign Secrets of 4 KiB", b.scale.foreignSecrets), "+0 +- 2 MiB", fmt.Sprintf("%+.2f MiB", float64(b.heap()-before)/(1<<20)))
}

// outage lets the hold fail. One HoldLink has it looked at more often than the others.
func (b *bench) outage() {
	b.Helper()
	l := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name(0)}}
	controltest.Update(b.Env, l, func(l *v1alpha1.HoldLink) {
		l.Spec.HealthCheck = v1alpha1.HealthCheck{Interval: "10s", Timeout: "1s", FailureThreshold: threshold}
	})
	b.HoldLink(name(0), "Healthy=True")
	b.AppView(name(0), "HoldsHealthy=True")
	b.hold.Fail(true)
	begin := time.Now()
	b.AppView(name(0), "HoldsHealthy=False", "Ready=True")
	goal := threshold*interval + timeout + time.Second
	b.report(fmt.Sprintf("hold outage to HoldsHealthy=False, %d x %s", threshold, interval), "<= "+goal.String(), seconds(time.Since(begin)))
}
