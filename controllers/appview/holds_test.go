package appview_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

// link attaches a hold by its URL, so that its DID is not known before it answers.
func link(name, url string) *v1alpha1.HoldLink {
	l := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: name}}
	l.Spec.AppViewRef.Name = "registry"
	l.Spec.Hold.URL = v1alpha1.Origin(url)
	l.Spec.HealthCheck = v1alpha1.HealthCheck{Interval: "10s", FailureThreshold: 1}
	return l
}

// The one that says where the hold is counts, whichever is first.
func TestTwoLinksToAHoldThatNeitherHasFoundAreToldOnce(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	e.Create(appView("registry"))
	want := map[string]string{}
	for _, hold := range []struct {
		did       v1alpha1.DID
		endpoints []v1alpha1.Origin // of its two links
	}{
		{"did:web:one.example.com", []v1alpha1.Origin{"", "http://127.0.0.1:1"}},
		{"did:web:two.example.com", []v1alpha1.Origin{"http://127.0.0.1:1", ""}},
	} {
		for i, at := range hold.endpoints {
			l := link(fmt.Sprintf("%s-%d", strings.TrimPrefix(string(hold.did), "did:web:"), i), "")
			l.Spec.Hold.DID, l.Spec.Endpoint = hold.did, at
			e.Create(l)
			e.HoldLink(l.Name, "Accepted=True", "Resolved=False/FetchFailed", "Programmed=True/NotDefault")
		}
		want[string(hold.did)] = "http://127.0.0.1:1"
	}
	got := map[string]string{}
	for _, h := range runtimeFile(e, "registry").Holds {
		require.NotContains(t, got, h.DID, "a server refuses a file that names a hold twice")
		got[h.DID] = h.Endpoint
	}
	require.Equal(t, want, got)
}

// Every word that an AppView has about its default hold and the health of its holds, in one life.
func TestWhatAnAppViewSaysOfItsHolds(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	one, two := e.NewHold(), e.NewHold()
	first, second := link("one", "http://127.0.0.1:1"), link("two", two.URL)
	av := appView("registry", withoutDefault)
	e.Create(first, av)
	got := e.AppView("registry", "Ready=False/DIDUnresolved", "DefaultHoldResolved=False/DIDUnresolved", "Available=False/Waiting", "HoldsHealthy=Unknown")
	require.Contains(t, condition(got, "DefaultHoldResolved").Message, e.Namespace+"/one")
	e.Create(second)
	got = e.AppView("registry", "Ready=False/Ambiguous", "DefaultHoldResolved=False/Ambiguous")
	require.Contains(t, condition(got, "DefaultHoldResolved").Message, "spec.defaultHold.holdLinkRef")

	require.NoError(t, e.Client.Delete(t.Context(), first)) // a HoldLink stays with its hold
	gone(e, first)
	first = link("one", one.URL)
	e.Create(first)
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.DefaultHold = &v1alpha1.DefaultHold{HoldLinkRef: &v1alpha1.HoldLinkReference{Name: "one"}}
	})
	e.AppView("registry", "Ready=True", "DefaultHoldResolved=True/Resolved", "HoldsHealthy=True/AllHealthy")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.DefaultHold = nil })
	e.AppView("registry", "Ready=True", "DefaultHoldResolved=True/UsingLastKnown")
	before := deployment(e)

	// Another timeout is another check, at once.
	look := func(l *v1alpha1.HoldLink, timeout v1alpha1.Duration) {
		controltest.Update(e, l, func(l *v1alpha1.HoldLink) { l.Spec.HealthCheck.Timeout = timeout })
	}
	two.Fail(true)
	look(second, "2s")
	got = e.AppView("registry", "HoldsHealthy=False/SomeUnhealthy", "Ready=True")
	require.Contains(t, condition(got, "HoldsHealthy").Message, e.Namespace+"/two")
	one.Fail(true)
	look(first, "2s")
	got = e.AppView("registry", "HoldsHealthy=False/DefaultUnhealthy", "Ready=True")
	require.Contains(t, condition(got, "HoldsHealthy").Message, e.Namespace+"/one")
	two.Fail(false)
	look(second, "3s")
	e.HoldLink("two", "Healthy=True")
	one.Fail(false)
	look(first, "3s")
	e.AppView("registry", "HoldsHealthy=True/AllHealthy", "Ready=True")
	require.Equal(t, before.Generation, deployment(e).Generation, "what holds do changes no pod")
	for _, reason := range []string{"SomeUnhealthy", "DefaultUnhealthy"} {
		require.Equal(t, corev1.EventTypeWarning, e.Event("registry", reason).Type)
		require.Equal(t, 1, e.Told("registry", reason))
	}
}
