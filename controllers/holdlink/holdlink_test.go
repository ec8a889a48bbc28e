package holdlink_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

func TestMain(m *testing.M) { os.Exit(controltest.Main(m, controltest.Promise{Kind: "HoldLink"})) }

func appView(change ...func(*v1alpha1.AppViewSpec)) *v1alpha1.AppView {
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	for _, c := range change {
		c(&av.Spec)
	}
	return av
}

// link attaches hold by its DID and endpoint.
func link(name string, hold *controltest.Hold, change ...func(*v1alpha1.HoldLinkSpec)) *v1alpha1.HoldLink {
	l := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: name}}
	l.Spec.AppViewRef.Name = "registry"
	l.Spec.Hold.DID, l.Spec.Endpoint = v1alpha1.DID(hold.DID), v1alpha1.Origin(hold.URL)
	l.Spec.HealthCheck = v1alpha1.HealthCheck{Interval: "10s", FailureThreshold: 1}
	for _, c := range change {
		c(&l.Spec)
	}
	return l
}

func message(conditions []metav1.Condition, kind string) string {
	for _, c := range conditions {
		if c.Type == kind {
			return c.Message
		}
	}
	return ""
}

func told(e *controltest.Env) *names.Runtime {
	e.Helper()
	cm := &corev1.ConfigMap{}
	e.Get("registry-runtime", cm)
	r, err := names.ParseRuntime([]byte(cm.Data[names.FileRuntime]))
	require.NoError(e, err)
	return r
}

func TestAnAppViewAndAHoldLinkFindEachOther(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	e.Create(link("hold", hold, func(s *v1alpha1.HoldLinkSpec) { s.Download = v1alpha1.DownloadProxy }))
	l := e.HoldLink("hold", "Ready=False/AppViewNotFound", "Reconciling=True/Progressing", "Resolved=Unknown/Unknown", "Healthy=Unknown/Unknown")
	require.Contains(t, message(l.Status.Conditions, "Accepted"), e.Namespace+"/registry")
	require.Zero(t, hold.Asked.Load(), "a hold is not called before both sides agree")

	e.Create(appView())
	l = e.HoldLink("hold", "Ready=True", "Accepted=True", "Resolved=True", "Healthy=True", "Programmed=True/InUse", "Reconciling=", "Stalled=")
	require.Equal(t, hold.DID, l.Status.DID)
	require.Equal(t, hold.URL, l.Status.Endpoint)
	require.Equal(t, e.Namespace+"/registry", l.Status.IsDefaultFor)
	require.Equal(t, v1alpha1.Healthy, l.Status.Health.State)

	av := e.AppView("registry", "Ready=True", "DefaultHoldResolved=True/Resolved", "HoldsHealthy=True/AllHealthy")
	require.Equal(t, &v1alpha1.DefaultHoldStatus{DID: hold.DID, Source: v1alpha1.DefaultHoldOnlyLink, HoldLink: e.Namespace + "/hold"}, av.Status.DefaultHold)
	require.Equal(t, v1alpha1.HoldCounts{Linked: 1, Accepted: 1, Healthy: 1}, av.Status.Holds)
	require.Equal(t, "1/1", av.Status.HoldSummary)
	require.Equal(t, []names.Hold{{DID: hold.DID, Endpoint: hold.URL, Download: names.Proxy}}, told(e).Holds)
	require.Equal(t, hold.DID, told(e).DefaultHoldDID)
	e.Event("hold", "DefaultHold")
}

func TestAHoldThatIsDownIsReportedAndTheRegistryStaysReady(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	e.Create(appView(), link("hold", hold))
	e.AppView("registry", "Ready=True", "HoldsHealthy=True")

	hold.Fail(true)
	l := e.HoldLink("hold", "Healthy=False/BadStatus", "Ready=True", "Resolved=True")
	require.NotContains(t, message(l.Status.Conditions, "Healthy"), "version", "no byte of the hold's answer is shown")
	av := e.AppView("registry", "HoldsHealthy=False/DefaultUnhealthy", "Ready=True", "Available=True")
	require.Contains(t, message(av.Status.Conditions, "HoldsHealthy"), e.Namespace+"/hold")
	require.Equal(t, "0/1", av.Status.HoldSummary)
	e.Event("registry", "DefaultUnhealthy")
	e.Event("hold", "BadStatus")

	hold.Fail(false)
	e.HoldLink("hold", "Healthy=True")
	e.AppView("registry", "HoldsHealthy=True", "Ready=True")
}

func TestTwoHoldsAndNobodySaysWhichIsDefault(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	one, two := e.NewHold(), e.NewHold()
	e.Create(link("one", one), link("two", two), appView())
	av := e.AppView("registry", "Ready=False/Ambiguous", "DefaultHoldResolved=False/Ambiguous")
	require.Contains(t, message(av.Status.Conditions, "Ready"), "spec.defaultHold.holdLinkRef")
	require.Contains(t, message(av.Status.Conditions, "Ready"), e.Namespace+"/one")
	e.Event("registry", "Ambiguous")
	for _, name := range []string{"one", "two"} { // no server runs
		e.HoldLink(name, "Ready=False/Pending", "Resolved=True", "Programmed=False/Pending")
	}

	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.DefaultHold = &v1alpha1.DefaultHold{HoldLinkRef: &v1alpha1.HoldLinkReference{Name: "two"}}
	})
	e.AppView("registry", "Ready=True")
	require.Equal(t, two.DID, told(e).DefaultHoldDID)
	require.Len(t, told(e).Holds, 2)
	e.HoldLink("two", "Programmed=True/InUse")
	e.HoldLink("one", "Programmed=True/NotDefault", "Ready=True")
}

func TestASecondHoldDoesNotTakeTheDefaultAway(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	one, two := e.NewHold(), e.NewHold()
	first := link("one", one)
	e.Create(appView(), first)
	e.AppView("registry", "Ready=True")

	e.Create(link("two", two))
	e.HoldLink("two", "Programmed=True/NotDefault")
	av := e.AppView("registry", "Ready=True", "DefaultHoldResolved=True/UsingLastKnown")
	require.Equal(t, one.DID, told(e).DefaultHoldDID)
	require.Equal(t, v1alpha1.DefaultHoldLastKnown, av.Status.DefaultHold.Source)

	// A Member never was a candidate.
	controltest.Update(e, first, func(l *v1alpha1.HoldLink) { l.Spec.Role = v1alpha1.RoleMember })
	e.AppView("registry", "DefaultHoldResolved=True/Resolved")
	e.Eventually("the other is default", func() error {
		if got := told(e).DefaultHoldDID; got != two.DID {
			return fmt.Errorf("default is %s", got)
		}
		return nil
	})
}

func TestWithoutItsHoldLinkTheServerKeepsTheDefaultItHas(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	l := link("hold", hold)
	e.Create(appView(), l)
	e.AppView("registry", "Ready=True")
	require.NoError(t, e.Client.Delete(t.Context(), l))
	av := e.AppView("registry", "Ready=False/NoHold", "Available=True")
	require.Contains(t, message(av.Status.Conditions, "DefaultHoldResolved"), "keeps "+hold.DID)
	require.Equal(t, hold.DID, told(e).DefaultHoldDID)
	require.Equal(t, v1alpha1.DefaultHoldLastKnown, av.Status.DefaultHold.Source)
}

func TestAHoldLinkFromAnotherNamespaceNeedsConsent(t *testing.T) {
	e := controltest.New(t)
	e.Operator(controltest.Everywhere())
	e.Kubelet()
	hold := e.NewHold()
	other := e.OtherNamespace(map[string]string{"team": "a"})
	l := link("hold", hold)
	l.Namespace = other
	l.Spec.AppViewRef.Namespace = v1alpha1.NamespaceName(e.Namespace)
	av := appView()
	e.Create(av, l)
	got := e.HoldLinkIn(other, "hold", "Ready=False/NotAllowedByAppView", "Stalled=True", "Resolved=Unknown")
	require.Contains(t, message(got.Status.Conditions, "Accepted"), "spec.holdLinks.allowedNamespaces")
	require.Zero(t, hold.Asked.Load())
	refused := e.AppView("registry", "Ready=False/NoHold")
	require.Equal(t, v1alpha1.HoldCounts{Linked: 1}, refused.Status.Holds)

	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.HoldLinks.AllowedNamespaces = v1alpha1.AllowedNamespaces{
			From: v1alpha1.FromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}},
		}
	})
	e.HoldLinkIn(other, "hold", "Ready=True", "Stalled=")
	e.AppView("registry", "Ready=True")

	// Consent is withdrawn by a label alone.
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: other}}
	controltest.Update(e, ns, func(ns *corev1.Namespace) { delete(ns.Labels, "team") })
	e.HoldLinkIn(other, "hold", "Ready=False/NotAllowedByAppView")
	e.AppView("registry", "Ready=False/NoHold", "Available=True")
}

func TestTheSameHoldTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	first := link("a", hold)
	e.Create(appView(), first)
	e.AppView("registry", "Ready=True")
	e.Create(link("b", hold))
	l := e.HoldLink("b", "Ready=False/DuplicateDID", "Stalled=True/DuplicateDID")
	require.Contains(t, message(l.Status.Conditions, "Accepted"), e.Namespace+"/a")
	require.Len(t, told(e).Holds, 1)

	require.NoError(t, e.Client.Delete(t.Context(), first))
	e.HoldLink("b", "Ready=True", "Stalled=")
	e.AppView("registry", "Ready=True")
}

// Nothing but the first link's end wakes the second: an AppView that is suspended says nothing new.
func TestTheSecondLinkOfAHoldCountsOnceTheFirstIsGone(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	first, av := link("a", hold), appView()
	e.Create(av, first)
	e.AppView("registry", "Ready=True")
	e.Create(link("b", hold))
	e.HoldLink("b", "Ready=False/DuplicateDID")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Reconciliation = v1alpha1.Suspended })
	e.AppView("registry", "Reconciling=True/Suspended")
	require.NoError(t, e.Client.Delete(t.Context(), first))
	e.HoldLink("b", "Accepted=True", "Stalled=")
}

func TestHoldsAreFoundByURL(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	e.Create(appView(), link("hold", hold, func(s *v1alpha1.HoldLinkSpec) {
		s.Hold = v1alpha1.HoldSource{URL: v1alpha1.Origin(hold.URL)}
		s.Endpoint = ""
	}))
	l := e.HoldLink("hold", "Ready=True")
	require.Equal(t, hold.DID, l.Status.DID)
	require.Equal(t, v1alpha1.DownloadRedirect, l.Status.Download)
	require.Equal(t, hold.URL, told(e).Holds[0].Endpoint)
}

// A proxy in front of a hold that was found answers for it with a page of its own: that is no other hold.
func TestAWrongPageTakesNoHoldAwayThatWasFound(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	first := e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	l := link("hold", hold)
	e.Create(appView(), l)
	e.HoldLink("hold", "Ready=True")
	e.AppView("registry", "Ready=True")
	first.Stop()
	hold.BehindAPage()
	e.Operator() // remembers nothing, so it reads the document again
	controltest.Update(e, l, func(l *v1alpha1.HoldLink) { l.Spec.HealthCheck.Interval = "20s" })
	got := e.HoldLink("hold", "Ready=True", "Resolved=True")
	require.Equal(t, hold.DID, got.Status.DID)
	require.Equal(t, hold.URL, got.Status.Endpoint)
}

// The DID is known from the spec, so the registry runs although its hold does not answer yet.
func TestARegistryStartsBeforeItsHold(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	e.Create(appView(), link("hold", hold, func(s *v1alpha1.HoldLinkSpec) { s.Endpoint = "http://127.0.0.1:1" }))
	e.HoldLink("hold", "Resolved=False/FetchFailed", "Programmed=True")
	e.AppView("registry", "Ready=True", "HoldsHealthy=Unknown")
}

func TestASuspendedHoldLinkIsLeftAlone(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	l := link("hold", hold)
	e.Create(appView(), l)
	e.HoldLink("hold", "Ready=True")
	controltest.Update(e, l, func(l *v1alpha1.HoldLink) { l.Spec.Reconciliation = v1alpha1.Suspended })
	e.HoldLink("hold", "Ready=Unknown/Suspended", "Reconciling=True/Suspended")
	require.Len(t, told(e).Holds, 1)
	controltest.Update(e, l, func(l *v1alpha1.HoldLink) { l.Spec.Reconciliation = v1alpha1.Active })
	e.HoldLink("hold", "Ready=True", "Reconciling=")
}

// Everything about a link is known and the hold is well: nothing is asked of the API server, by either controller.
func TestSteadyStateOfALinkSendsNoRequest(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	hold := e.NewHold()
	e.Create(appView(), link("hold", hold))
	e.HoldLink("hold", "Ready=True", "Healthy=True")
	e.AppView("registry", "Ready=True", "HoldsHealthy=True")

	asked := hold.Asked.Load()
	requests.Reset()
	e.Eventually("another check of the hold", func() error {
		if hold.Asked.Load() == asked {
			return fmt.Errorf("still %d", asked)
		}
		return nil
	})
	for _, r := range requests.Requests() {
		require.False(t, strings.Contains(r, "/status"), "%v", requests.Requests())
	}
	require.Empty(t, requests.Requests())
}

func TestAnAppViewInANamespaceThatIsNotWatched(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Create(link("hold", e.NewHold(), func(s *v1alpha1.HoldLinkSpec) { s.AppViewRef.Namespace = "elsewhere" }))
	l := e.HoldLink("hold", "Ready=False/AppViewNotFound", "Stalled=True/AppViewNotFound")
	require.Contains(t, message(l.Status.Conditions, "Accepted"), "--watch-namespaces")
}

// far attaches a hold whose DID is known and that never answers.
func far(name string) *v1alpha1.HoldLink {
	l := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: name}}
	l.Spec.AppViewRef.Name = "registry"
	l.Spec.Hold.DID, l.Spec.Endpoint = v1alpha1.DID("did:web:"+name+".example.com"), "http://127.0.0.1:1"
	return l
}

func TestAnAppViewWithManyHoldLinks(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	e.Create(appView(func(s *v1alpha1.AppViewSpec) { s.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"} }))
	const many = 40
	for i := range many {
		e.Create(far(fmt.Sprintf("hold-%02d", i)))
	}
	for i := range many {
		e.HoldLink(fmt.Sprintf("hold-%02d", i), "Programmed=True/NotDefault")
	}
	av := e.AppView("registry", "Ready=True")
	require.EqualValues(t, many, av.Status.Holds.Accepted)
	require.Len(t, av.Status.Links, many)
	require.Len(t, told(e).Holds, many)
}

// Which of two links counts is decided by the labels of both their namespaces.
func TestTheSameHoldTwiceFromSelectedNamespaces(t *testing.T) {
	e := controltest.New(t)
	e.Operator(controltest.Everywhere())
	e.Kubelet()
	hold := e.NewHold()
	namespaces := []string{e.OtherNamespace(map[string]string{"team": "a"}), e.OtherNamespace(map[string]string{"team": "a"})}
	slices.Sort(namespaces) // of two that are created in one second, the first by name is the older
	e.Create(appView(func(s *v1alpha1.AppViewSpec) {
		s.HoldLinks.AllowedNamespaces = v1alpha1.AllowedNamespaces{
			From: v1alpha1.FromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}},
		}
	}))
	for _, namespace := range namespaces {
		l := link("hold", hold)
		l.Namespace = namespace
		l.Spec.AppViewRef.Namespace = v1alpha1.NamespaceName(e.Namespace)
		e.Create(l)
		if namespace == namespaces[0] {
			e.HoldLinkIn(namespace, "hold", "Ready=True")
		}
	}
	e.HoldLinkIn(namespaces[1], "hold", "Ready=False/DuplicateDID", "Stalled=True/DuplicateDID")
}

// The health at one endpoint says nothing about the one that takes its place, not even while nobody looks.
func TestAnotherEndpointStartsWithoutTheHealthOfTheFirst(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	well, ill := e.NewHold(), e.NewHold()
	ill.Claim(well.DID)
	ill.Fail(true)
	l := link("hold", well, func(s *v1alpha1.HoldLinkSpec) {
		s.HealthCheck = v1alpha1.HealthCheck{Interval: "1h", FailureThreshold: 3}
	})
	e.Create(appView(), l)
	e.HoldLink("hold", "Ready=True", "Healthy=True")
	controltest.Update(e, l, func(l *v1alpha1.HoldLink) { l.Spec.Reconciliation = v1alpha1.Suspended })
	e.HoldLink("hold", "Ready=Unknown/Suspended")
	controltest.Update(e, l, func(l *v1alpha1.HoldLink) {
		l.Spec.Reconciliation = v1alpha1.Active
		l.Spec.Endpoint = v1alpha1.Origin(ill.URL)
	})
	e.HoldLink("hold", "Healthy=False/BadStatus")
}

// The runtime file is the first memory of the default hold, status the second.
func TestTheDefaultOutlivesItsHoldLinkAndTheRuntimeFile(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	l := link("hold", hold)
	e.Create(appView(), l)
	e.AppView("registry", "Ready=True")
	require.NoError(t, e.Client.Delete(t.Context(), l))
	e.AppView("registry", "Ready=False/NoHold")
	cm := &corev1.ConfigMap{}
	e.Get("registry-runtime", cm)
	require.NoError(t, e.Client.Delete(t.Context(), cm))
	e.Eventually("the runtime file is back", func() error {
		return e.Client.Get(t.Context(), client.ObjectKeyFromObject(cm), &corev1.ConfigMap{})
	})
	require.Equal(t, hold.DID, told(e).DefaultHoldDID)
}

func TestAStatusIsNotWrittenToASuccessor(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	write := &controltest.Meanwhile{Method: http.MethodPatch, Path: "/holdlinks/hold/status"}
	e.Operator(write.Watch)
	hold := e.NewHold()
	old := link("hold", hold)
	e.Create(old)
	e.HoldLink("hold", "Ready=False/AppViewNotFound")
	replaced, mine := make(chan struct{}), old.DeepCopy()
	write.Once(func() {
		defer close(replaced)
		if err := e.Client.Delete(t.Context(), mine); err != nil {
			t.Error(err)
		}
		next := link("hold", hold)
		next.Namespace = e.Namespace
		if err := e.Client.Create(t.Context(), next); err != nil {
			t.Error(err)
		}
	})
	controltest.Update(e, old, func(l *v1alpha1.HoldLink) { l.Spec.DisplayName = "generation 2" })
	<-replaced
	e.HoldLink("hold", "Ready=False/AppViewNotFound")
}

// News is what status says: while that cannot be written, nothing is announced, and afterwards once.
func TestABecomingDefaultIsAnnouncedOnceItIsWritten(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	refused := &controltest.Fault{Method: http.MethodPatch, Path: "/holdlinks/hold/status"}
	refused.Off()
	e.Operator(controltest.With(refused))
	e.Kubelet()
	hold := e.NewHold()
	av := appView(func(s *v1alpha1.AppViewSpec) { s.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"} })
	e.Create(av, link("hold", hold))
	e.HoldLink("hold", "Ready=True", "Programmed=True/NotDefault")
	refused.On()
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.DefaultHold.DID = v1alpha1.DID(hold.DID) })
	e.Eventually("two attempts", func() error {
		if n := len(refused.Times()); n < 2 {
			return fmt.Errorf("only %d", n)
		}
		return nil
	})
	for _, ev := range e.Events("hold") {
		require.NotEqual(t, "DefaultHold", ev.Reason)
	}
	refused.Off()
	e.Event("hold", "DefaultHold")
}

// Whoever upgrades the operator while an AppView is in trouble, or suspended, keeps what its servers were told.
func TestWhatServersWereToldCountsForALinkOfWhichNoGenerationIsKnown(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "registry"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
	av := appView()
	l := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold"}}
	l.Spec.AppViewRef.Name = v1alpha1.ObjectName(av.Name)
	l.Spec.Hold.DID, l.Spec.Endpoint = "did:web:hold.example.com", "http://127.0.0.1:1"
	e.Create(av, l)
	e.AppView(av.Name, "Ready=False/NotPermitted") // somebody else's Service: no server is looked at
	e.HoldLink("hold", "Accepted=True", "Programmed=False/Pending")
	told := func(generation int64) {
		t.Helper()
		e.Eventually("what the servers were told", func() error {
			e.Get(av.Name, av)
			av.Status.Links = []v1alpha1.LinkStatus{{Namespace: e.Namespace, Name: "hold", DID: string(l.Spec.Hold.DID), Health: v1alpha1.Unknown, ObservedGeneration: generation}}
			return e.Client.Status().Update(t.Context(), av)
		})
	}
	told(0)
	e.HoldLink("hold", "Programmed=True")

	told(1)
	controltest.Update(e, l, func(l *v1alpha1.HoldLink) { l.Spec.DisplayName = "Hold" })
	e.HoldLink("hold", "Programmed=False/Pending")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Reconciliation = v1alpha1.Suspended })
	e.HoldLink("hold", "Programmed=True")
}
