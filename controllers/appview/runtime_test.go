package appview_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

// earlier is what a server answers that runs with another runtime file than the newest.
var earlier = names.Ready{Status: names.StatusOK, RuntimeHash: names.RuntimeHash(nil)}

func TestAHoldIsProgrammedOnceEveryServerRunsWithIt(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, _ := running(t, appView("registry"), servers.Asked())
	d := deployment(e)
	servers.Answer("10.1.1.1", names.Ready{Status: names.StatusOK})
	servers.Answer("10.1.1.2", earlier)
	e.Serving(d, "10.1.1.1")
	second := e.Serving(d, "10.1.1.2")

	hold := link("hold", e.NewHold().URL)
	e.Create(hold)
	e.HoldLink("hold", "Ready=False/Pending", "Resolved=True", "Programmed=False/Pending")
	e.Until("the pod is touched, so that its kubelet looks", func() bool {
		e.Get(second.Name, second)
		return second.Annotations[v1alpha1.AnnotationPoke] != ""
	})
	e.Until("the AppView counts the hold", func() bool { return e.AppView("registry").Status.Holds.Accepted == 1 })
	require.Empty(t, e.AppView("registry", "Ready=True", "Available=True").Status.Links)

	servers.Answer("10.1.1.2", names.Ready{Status: names.StatusOK})
	e.HoldLink("hold", "Ready=True", "Programmed=True/NotDefault")
	require.Len(t, e.AppView("registry").Status.Links, 1)

	// The same for a change of the link, and until then the servers have it as it was.
	servers.Answer("10.1.1.1", earlier)
	controltest.Update(e, hold, func(l *v1alpha1.HoldLink) { l.Spec.Download = v1alpha1.DownloadProxy })
	e.HoldLink("hold", "Ready=False/Pending")
	require.Len(t, e.AppView("registry", "Ready=True").Status.Links, 1)
	servers.Answer("10.1.1.1", names.Ready{Status: names.StatusOK})
	e.HoldLink("hold", "Ready=True")
}

func TestReadyWaitsForServersToLoadTheRuntimeFileOfAChangedSpec(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, av := running(t, appView("registry"), servers.Asked())
	servers.Answer("10.1.1.1", earlier)
	pod := e.Serving(deployment(e), "10.1.1.1")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Network.AllowedPrivatePorts = []int32{5443} })
	got := e.AppView("registry", "Ready=False/RollingOut", "Available=False/RollingOut")
	require.Contains(t, condition(got, "Available").Message, pod.Name)
	servers.Answer("10.1.1.1", names.Ready{Status: names.StatusOK})
	e.AppView("registry", "Ready=True")
}

func TestAServerThatNeverLoadsTheRuntimeFileIsNamed(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, _ := running(t, appView("registry"), servers.Asked(), propagation(10*time.Millisecond))
	servers.Answer("10.1.1.1", earlier)
	pod := e.Serving(deployment(e), "10.1.1.1")
	e.Create(link("hold", e.NewHold().URL))
	got := e.AppView("registry", "Ready=False/ServersBehind", "Available=False/ServersBehind")
	require.Contains(t, condition(got, "Available").Message, pod.Name)
	require.Equal(t, corev1.EventTypeWarning, e.Event("registry", "ServersBehind").Type)
	require.NoError(t, e.Client.Delete(t.Context(), pod))
	controltest.Annotate(e, got, v1alpha1.AnnotationReconcile, "the pod is gone")
	e.AppView("registry", "Ready=True")
	e.HoldLink("hold", "Ready=True")
}

// A server that cannot be asked, because a network policy is in the way, has its kubelet: that brings the file in time.
func TestAServerThatCannotBeAskedHoldsNothingUp(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, _ := running(t, appView("registry"), servers.Asked(), propagation(10*time.Millisecond))
	e.Serving(deployment(e), "10.1.1.1")
	e.Create(link("hold", e.NewHold().URL))
	e.HoldLink("hold", "Ready=True")
	e.AppView("registry", "Ready=True")
}
