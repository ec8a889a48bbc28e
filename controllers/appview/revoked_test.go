package appview_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

// A hold whose Service's namespace takes its consent back: an empty default would be an outage, so what runs goes on as it
// is, and nothing new begins with that hold.
func TestConsentThatIsTakenBackLeavesTheServersAsTheyAre(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold"}}
	link.Spec.AppViewRef.Name = "registry"
	link.Spec.Hold.ServiceRef = &v1alpha1.ServiceReference{Name: "hold", Namespace: "storage"}
	link.Spec.Reconciliation = v1alpha1.Suspended // its status is this test's
	av := appView("registry", withoutDefault)
	e.Create(link, av)
	e.AppView("registry", "DefaultHoldResolved=False/DIDUnresolved")
	e.HoldLink("hold", "Ready=Unknown/Suspended")
	resolution := func(status metav1.ConditionStatus, reason, did string) {
		t.Helper()
		e.Eventually("the status of the HoldLink", func() error {
			e.Get("hold", link)
			link.Status.DID, link.Status.ObservedGeneration = did, link.Generation
			meta.SetStatusCondition(&link.Status.Conditions, metav1.Condition{
				Type: "Resolved", Status: status, Reason: reason, Message: "Service hold of namespace storage", ObservedGeneration: link.Generation,
			})
			return e.Client.Status().Update(t.Context(), link)
		})
	}
	resolution(metav1.ConditionTrue, "Resolved", holdDID)
	e.AppView("registry", "Ready=True", "DefaultHoldResolved=True")
	before := deployment(e).Spec

	resolution(metav1.ConditionFalse, "RefNotPermitted", "")
	got := e.AppView("registry", "Ready=False/NotPermitted", "DefaultHoldResolved=False/NotPermitted", "Available=True")
	require.Contains(t, condition(got, "DefaultHoldResolved").Message, "takes no other change of the spec")
	require.Equal(t, v1alpha1.DefaultHoldLastKnown, got.Status.DefaultHold.Source)
	require.Equal(t, corev1.EventTypeWarning, e.Event("registry", "NotPermitted").Type)
	require.Equal(t, holdDID, runtimeFile(e, "registry").DefaultHoldDID)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Logging.Level = "debug" })
	e.AppView("registry", "Ready=False/NotPermitted", "Available=True")
	require.Equal(t, before, deployment(e).Spec, "no pod is replaced")

	// Consent is back, and the hold does not answer yet.
	resolution(metav1.ConditionFalse, "FetchFailed", "")
	e.AppView("registry", "DefaultHoldResolved=False/DIDUnresolved")

	// Whether there is consent cannot be read: the hold is still the default.
	resolution(metav1.ConditionFalse, "RefNotPermitted", holdDID)
	e.AppView("registry", "Ready=True")
	require.NotEqual(t, before, deployment(e).Spec, "the change is made up for")
}
