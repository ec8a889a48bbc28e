package appview_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"atcr.io/operator/controllers/controltest"
)

// reconciles is how often the operator has finished a reconcile of an AppView.
func reconciles(t testing.TB, registry prometheus.Gatherer) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "atcr_apply_total" {
			var n float64
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetValue() == "ServiceAccount" {
						n += m.GetCounter().GetValue()
					}
				}
			}
			return n
		}
	}
	return 0
}

// touch brings the AppView back to the operator without changing anything that it wants: an annotation that only this
// test knows, on an object that it owns. The write itself is the test's.
func touch(e *controltest.Env, name, value string) {
	e.Helper()
	cm := &corev1.ConfigMap{}
	e.Get(name+"-runtime", cm)
	controltest.Update(e, cm, func(cm *corev1.ConfigMap) {
		if cm.Annotations == nil {
			cm.Annotations = map[string]string{}
		}
		cm.Annotations["test"] = value
	})
}

func TestSteadyStateSendsNoRequest(t *testing.T) {
	for name, options := range map[string][]controltest.Option{
		"one namespace": nil, "all namespaces": {controltest.Everywhere()},
	} {
		t.Run(name, func(t *testing.T) {
			e := controltest.New(t)
			var requests controltest.Counter
			op := e.Operator(append(options, controltest.Counted(&requests))...)
			e.Kubelet()
			e.Create(appView("registry"))
			e.AppView("registry", "Ready=True")
			quiet(e, op)

			requests.Reset()
			for _, value := range []string{"a", "b", "c"} {
				before := reconciles(t, op.Metrics)
				touch(e, "registry", value)
				e.Eventually("a reconcile", func() error {
					if reconciles(t, op.Metrics) == before {
						return context.DeadlineExceeded
					}
					return nil
				})
			}
			quiet(e, op)
			require.Empty(t, requests.Requests())
			require.Zero(t, requests.Events())
		})
	}
}

// quiet waits until no reconcile has happened for a while.
func quiet(e *controltest.Env, op *controltest.Operator) {
	e.Helper()
	last, since := reconciles(e, op.Metrics), time.Now()
	e.Eventually("the operator rests", func() error {
		if n := reconciles(e, op.Metrics); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < time.Second { // a busy machine may take a while between an event and its reconcile
			return context.DeadlineExceeded
		}
		return nil
	})
}

func TestARestartOfTheOperatorWritesNothing(t *testing.T) {
	e := controltest.New(t)
	first := e.Operator()
	e.Kubelet()
	e.Create(appView("registry"))
	e.AppView("registry", "Ready=True")
	quiet(e, first)
	first.Stop()

	var requests controltest.Counter
	second := e.Operator(controltest.Counted(&requests))
	e.Eventually("a reconcile", func() error {
		if reconciles(t, second.Metrics) == 0 {
			return context.DeadlineExceeded
		}
		return nil
	})
	quiet(e, second)
	require.Empty(t, requests.Writes())
}

// From apply to Ready: one write for each of the ten children, one for the finalizer, and two of status: started, and
// Ready. The reconciles are called by hand, so that the cluster's part happens between them and nowhere else.
func TestFromApplyToReadyTakesThirteenWrites(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	requests.Reset()
	e.Create(appView("registry"))
	e.AppView("registry", "KeysReady=True", "Available=False/Progressing", "DatabaseReady=False/ClaimPending")
	quiet(e, op)
	require.Len(t, requests.Writes(), 12, "children, finalizer, status: %v", requests.Writes())

	// The volume and the pod appear in one moment, as far as the operator can tell: it is stopped meanwhile.
	op.Stop()
	d, pvc := &appsv1.Deployment{}, &corev1.PersistentVolumeClaim{}
	e.Get("registry", d)
	controltest.Run(d)
	require.NoError(t, e.Client.Status().Update(t.Context(), d))
	e.Get("registry-data", pvc)
	pvc.Status.Phase = corev1.ClaimBound
	require.NoError(t, e.Client.Status().Update(t.Context(), pvc))
	var after controltest.Counter
	op = e.Operator(controltest.Counted(&after))
	e.AppView("registry", "Ready=True")
	quiet(e, op)
	require.Len(t, after.Writes(), 1, "%v", after.Writes())
}

// noHotLoop watches the operator for a moment in which a hot loop would send dozens of requests.
func noHotLoop(t testing.TB, requests *controltest.Counter) {
	t.Helper()
	requests.Reset()
	select {
	case <-time.After(1500 * time.Millisecond):
	case <-t.Context().Done():
	}
	require.LessOrEqual(t, len(requests.Requests()), 3, "%v", requests.Requests())
}
