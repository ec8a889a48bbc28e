package appview_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

func onNothing(s *v1alpha1.AppViewSpec) { s.Database = v1alpha1.Database{Type: v1alpha1.DatabaseNone} }

func claims(e *controltest.Env) []corev1.PersistentVolumeClaim {
	e.Helper()
	var list corev1.PersistentVolumeClaimList
	require.NoError(e, e.Client.List(e.Context(), &list, client.InNamespace(e.Namespace)))
	return list.Items
}

func TestWithoutADatabaseTheFileGoesWithItsPod(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	av := appView("registry", onNothing)
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "DatabaseReady=True/NotRequired", "BackupCurrent=False/NotConfigured")
	for _, says := range []string{"spec.database.type is None", "log in again", "uploads in progress", "holds", "handle", "records"} {
		require.Contains(t, condition(got, "DatabaseReady").Message, says)
	}
	require.Equal(t, v1alpha1.DatabaseStatus{Type: v1alpha1.DatabaseNone}, got.Status.Database)
	require.Empty(t, claims(e))

	d := deployment(e)
	require.Equal(t, "4Gi", volume(d, "data").EmptyDir.SizeLimit.String())
	require.Equal(t, names.DirData+"/ui.db", variable(d, names.UIDatabasePath))
	require.Equal(t, appsv1.RollingUpdateDeploymentStrategyType, d.Spec.Strategy.Type)
	require.Zero(t, d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue())
	require.NotNil(t, d.Spec.Template.Spec.Containers[0].Lifecycle.PreStop.Sleep, "it serves on until the new pod is known")

	quiet(e, op)
	requests.Reset()
	before := reconciles(t, op.Metrics)
	touch(e, "registry", "a")
	e.Until("a reconcile", func() bool { return reconciles(t, op.Metrics) > before })
	quiet(e, op)
	require.Empty(t, requests.Requests())

	// The old pod stays until the new one is ready, so that none has to try the image first.
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = controltest.Slow })
	e.Until("the image is rolled out", func() bool { return imageOf(e) == controltest.Slow })
	e.AppView("registry", "Ready=True")
	require.Empty(t, trials(e))
}

func TestAFullDiskOfTheNodeIsSaidWithoutADatabase(t *testing.T) {
	t.Parallel()
	var servers controltest.Servers
	e, av := running(t, appView("registry", onNothing), servers.Asked())
	e.Serving(deployment(e), "10.1.4.1")
	servers.Answer("10.1.4.1", names.Ready{Status: names.StatusOK, Database: &names.DatabaseState{Bytes: 1, Free: 1}})
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "1")
	got := e.AppView("registry", "Ready=False/StorageFull", "DatabaseReady=False/StorageFull", "Available=True")
	require.Contains(t, condition(got, "DatabaseReady").Message, "disk of the server's node is full: make room there, or delete the pod")
}

func TestTheClaimOutlivesAnAppViewThatKeepsNothingForAWhile(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	claim := claims(e)[0].UID

	controltest.Update(e, av, func(av *v1alpha1.AppView) { onNothing(&av.Spec) })
	got := e.AppView("registry", "Ready=True", "DatabaseReady=True/NotRequired")
	require.Contains(t, condition(got, "DatabaseReady").Message, "PersistentVolumeClaim registry-data, which is kept")
	note := e.Event("registry", "DatabaseSwitched").Note
	require.Contains(t, note, "no database now")
	require.Contains(t, note, "PersistentVolumeClaim registry-data with the SQLite database is kept")
	require.NotNil(t, volume(deployment(e), "data").EmptyDir)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database = v1alpha1.Database{} })
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound")
	e.Until("both changes are told", func() bool { return e.Told("registry", "DatabaseSwitched") == 2 })
	require.Equal(t, "registry-data", volume(deployment(e), "data").PersistentVolumeClaim.ClaimName)
	require.Equal(t, claim, claims(e)[0].UID)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { onNothing(&av.Spec); av.Spec.DeletionPolicy.Data = v1alpha1.Delete })
	e.AppView("registry", "Ready=True", "DatabaseReady=True/NotRequired")
	require.Len(t, claims(e), 1)
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	for _, c := range claims(e) { // a finalizer of the cluster keeps it here, where no controller lifts it
		require.NotNil(t, c.DeletionTimestamp)
	}
}

// What runs is what is said, whatever the spec asks for.
func TestADatabaseIsSwitchedWhenTheServerUsesTheNextOne(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	e.Create(cnpg(), &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}) // somebody else's
	before := e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound", "BackupCurrent=False/NotConfigured")

	controltest.Update(e, av, func(av *v1alpha1.AppView) { onPostgres(&av.Spec); byPolicy(&av.Spec) })
	got := e.AppView("registry", "Ready=False/NotPermitted", "DatabaseReady=False/Connecting", "Available=True")
	require.Equal(t, before.Status.Database, got.Status.Database)
	require.Equal(t, condition(before, "BackupCurrent"), condition(got, "BackupCurrent"))
	require.NotNil(t, volume(deployment(e), "data"))
	require.Zero(t, e.Told("registry", "DatabaseSwitched"))

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.NetworkPolicy.Mode = v1alpha1.Disabled })
	got = e.AppView("registry", "Ready=True", "DatabaseReady=True/Connected")
	require.Equal(t, v1alpha1.DatabaseStatus{Type: v1alpha1.DatabasePostgreSQL}, got.Status.Database)
	require.Contains(t, condition(got, "BackupCurrent").Message, "PostgreSQL has backups of its own")
	require.Contains(t, e.Event("registry", "DatabaseSwitched").Note, "PostgreSQL now")
	require.Equal(t, 1, e.Told("registry", "DatabaseSwitched"))
}
