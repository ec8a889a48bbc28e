package appview_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

// Nothing else tells of a full disk: reads go on, so the server stays ready.
func TestAFullVolumeIsSaidAndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var servers controltest.Servers
	var requests controltest.Counter
	e.Operator(servers.Asked(), controltest.Counted(&requests))
	e.Kubelet()
	av := appView("registry")
	e.Create(av)
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound")
	e.Serving(deployment(e), "10.1.1.1")
	before := deployment(e).Generation
	look := func(bytes, free int64) {
		t.Helper()
		servers.Answer("10.1.1.1", names.Ready{Status: names.StatusOK, Database: &names.DatabaseState{Bytes: bytes, Free: free}})
		e.Get("registry", av)
		controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, av.Annotations[v1alpha1.AnnotationReconcile]+"i")
	}
	look(100<<20, 1<<30)
	e.Until("status has the size, in steps", func() bool { return e.AppView("registry", "Ready=True").Status.Database.Bytes == 112<<20 })
	look(1<<30, 1<<20)
	got := e.AppView("registry", "Ready=False/StorageFull", "DatabaseReady=False/StorageFull", "Stalled=True/StorageFull", "Available=True")
	for _, says := range []string{"PersistentVolumeClaim registry-data", "spec.database.sqlite.size", "Pulls"} {
		require.Contains(t, condition(got, "DatabaseReady").Message, says)
	}
	require.Equal(t, corev1.EventTypeWarning, e.Event("registry", "StorageFull").Type)
	noHotLoop(t, &requests)
	require.Equal(t, 1, e.Told("registry", "StorageFull"))
	require.Equal(t, before, deployment(e).Generation, "what runs goes on")

	look(1<<30, 20<<20) // hardly more
	e.Until("that was looked at", func() bool { return e.AppView("registry").Status.LastHandledReconcileAt == "iii" })
	e.AppView("registry", "DatabaseReady=False/StorageFull")
	look(1<<30, 1<<30)
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound")
}
