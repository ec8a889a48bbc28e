package appview_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

// mishap is something that goes wrong around a registry that runs.
type mishap struct {
	spec    func(*v1alpha1.AppViewSpec) // of the registry; nil: the smallest
	around  func(*stage)                // what is there before it
	happens func(*stage)
	mends   func(*stage) // nil: only a new registry would help

	want  string   // the condition that says so, as "Type=Status/Reason"
	too   []string // types of conditions that are not true because of it
	says  []string // the field or the object, and what to do
	waits bool     // it may pass by itself: Reconciling, not Stalled
	still bool     // nothing is written while it lasts; what there is is looked at only
}

// stage is where a mishap happens.
type stage struct {
	*controltest.Env
	av      *v1alpha1.AppView
	servers *controltest.Servers
	options []controltest.Option // of the operator, for a mishap's around
	other   string               // a second namespace, when around has made one
}

// change changes the spec.
func (s *stage) change(change func(*v1alpha1.AppViewSpec)) {
	s.Helper()
	controltest.Update(s.Env, s.av, func(av *v1alpha1.AppView) { change(&av.Spec) })
}

func changed(change func(*v1alpha1.AppViewSpec)) func(*stage) {
	return func(s *stage) { s.Helper(); s.change(change) }
}

// Each thing that can be wrong with what a user gives, or with what surrounds a registry: one condition with a reason, a
// sentence that names the field or the object and what to do, one event, and no hot loop; what runs stays as it was, follows
// its HoldLinks, and is looked at.
func TestWhatGoesWrongIsSaidOnceAndTheRegistryGoesOn(t *testing.T) {
	t.Parallel()
	for name, m := range mishaps(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m.run(t)
		})
	}
}

// followsHoldLinks fails the test unless servers are told of a hold that comes, and no longer of one that goes.
func (s *stage) followsHoldLinks() {
	s.Helper()
	const came = "did:web:came.example.com"
	told := func() bool {
		return slices.ContainsFunc(runtimeFile(s.Env, "registry").Holds, func(h names.Hold) bool { return h.DID == came })
	}
	l := link("came", "")
	l.Spec.Hold.DID, l.Spec.Endpoint = came, "http://127.0.0.1:1"
	s.Create(l)
	s.Until("servers are told of the hold", told)
	require.NoError(s, s.Client.Delete(s.Context(), l))
	s.Until("servers are told that the hold is none of theirs any more", func() bool { return !told() })
}

func (m *mishap) run(t *testing.T) {
	s := &stage{Env: controltest.New(t), servers: &controltest.Servers{}, av: appView("registry")}
	var requests controltest.Counter
	var reconciles controltest.Reconciles
	if m.around != nil {
		m.around(s)
	}
	s.Operator(append(s.options, controltest.Counted(&requests), reconciles.Watch, s.servers.Asked(), propagation(10*time.Millisecond))...)
	s.Kubelet()
	if m.spec != nil {
		m.spec(&s.av.Spec)
	}
	s.Create(s.av)
	s.AppView("registry", "Ready=True")
	before := deployment(s.Env)

	m.happens(s)
	kind, reason := controltest.Split(m.want)
	is := "Stalled=True/" + reason
	if m.waits {
		is = "Reconciling=True"
	}
	got := s.AppView("registry", m.want, "Ready=False/"+reason, is)
	for _, says := range m.says {
		require.Contains(t, condition(got, kind).Message, says)
	}
	for _, c := range got.Status.Conditions {
		require.NotContains(t, c.Message, "s3cret")
		notAsked := c.Reason == v1alpha1.ReasonNotRequested || c.Reason == v1alpha1.ReasonNotConfigured
		expected := append([]string{kind, v1alpha1.ConditionReady, v1alpha1.ConditionHoldsHealthy}, m.too...)
		require.True(t, c.Status == metav1.ConditionTrue || notAsked || slices.Contains(expected, c.Type),
			"%s=%s/%s too: %s", c.Type, c.Status, c.Reason, c.Message)
	}
	s.Event("registry", reason)

	looks := reconciles.Of("appview", "registry")
	require.NotZero(t, looks)
	noHotLoop(t, &requests)
	require.LessOrEqual(t, reconciles.Of("appview", "registry")-looks, 2, "it is looked at again and again")
	require.Equal(t, 1, s.Told("registry", reason), "one event says it")
	require.Equal(t, before.Generation, deployment(s.Env).Generation, "what runs was changed")
	if !m.still {
		s.followsHoldLinks()
	}
	if kind != v1alpha1.ConditionAvailable && !slices.Contains(m.too, v1alpha1.ConditionAvailable) {
		status(s.Env, down)
		require.Zero(t, s.AppView("registry", "Available=False/Progressing", m.want).Status.ReadyReplicas)
		status(s.Env, controltest.Run)
		require.NotZero(t, s.AppView("registry", "Available=True", m.want).Status.ReadyReplicas)
	}
	require.Equal(t, before.Generation, deployment(s.Env).Generation, "what runs was changed")
	if m.mends != nil {
		m.mends(s)
		s.AppView("registry", "Ready=True", "Stalled=", "Reconciling=")
	}
}
