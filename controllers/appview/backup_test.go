package appview_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

func backups(b v1alpha1.Backup) func(*v1alpha1.AppViewSpec) {
	return func(s *v1alpha1.AppViewSpec) { s.Database.SQLite.Backup = &b }
}

// backedUp are the variables and mounts of the server that have to do with backups.
func backedUp(e *controltest.Env) map[string]string {
	e.Helper()
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	out := map[string]string{}
	for _, v := range d.Spec.Template.Spec.Containers[0].Env {
		switch v.Name {
		case names.BackupDir, names.BackupInterval, names.BackupKeep:
			out[v.Name] = v.Value
		}
	}
	claims := map[string]string{}
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			claims[v.Name] = v.PersistentVolumeClaim.ClaimName
		}
	}
	for _, m := range d.Spec.Template.Spec.Containers[0].VolumeMounts {
		if m.MountPath == names.DirBackup {
			out[m.MountPath] = claims[m.Name]
		}
	}
	return out
}

func TestTheServerSaysHowItsBackupsGo(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var servers controltest.Servers
	var requests controltest.Counter
	op := e.Operator(servers.Asked(), controltest.Counted(&requests))
	e.Kubelet()
	e.Create(appView("registry"))
	av := e.AppView("registry", "Ready=True", "BackupCurrent=False/NotConfigured")
	require.Empty(t, backedUp(e))

	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Database.SQLite.Backup = &v1alpha1.Backup{Interval: "4h", Retention: 3}
	})
	e.AppView("registry", "Ready=True", "BackupCurrent=Unknown/Pending")
	require.Equal(t, map[string]string{
		names.BackupDir: names.DirBackup, names.BackupInterval: "4h0m0s", names.BackupKeep: "3", names.DirBackup: "registry-backup",
	}, backedUp(e))
	claim, d := &corev1.PersistentVolumeClaim{}, &appsv1.Deployment{}
	e.Get("registry-backup", claim)
	require.Equal(t, "1Gi", claim.Spec.Resources.Requests.Storage().String())
	require.Empty(t, claim.OwnerReferences)
	e.Get("registry", d)
	e.Serving(d, "10.9.0.1")

	now := time.Now().Truncate(time.Second)
	for i, c := range []struct {
		state names.BackupState
		want  string
		says  string
	}{
		{names.BackupState{Last: now}, "True/Current", "one is made every 4h0m0s, and 3 are kept"},
		{names.BackupState{Last: now.Add(-295 * time.Minute)}, "True/Current", now.Add(-295 * time.Minute).UTC().Format(time.RFC3339)},
		{names.BackupState{Last: now.Add(-301 * time.Minute)}, "False/Overdue", "logs"},
		{names.BackupState{Last: now, Failed: names.BackupNoSpace}, "False/Failed", "spec.database.sqlite.backup.claim.size"},
		{names.BackupState{Failed: names.BackupFailed}, "False/Failed", "no backup was made yet"},
		{names.BackupState{Last: now}, "True/Current", ""},
	} {
		servers.Answer("10.9.0.1", names.Ready{Status: names.StatusOK, Backup: &c.state})
		touch(e, "registry", string(rune('a'+i)))
		av = e.AppView("registry", "Ready=True", "BackupCurrent="+c.want)
		e.Until("the status of backup "+c.says, func() bool {
			av = e.AppView("registry", "Ready=True", "BackupCurrent="+c.want)
			at := av.Status.Database.LastBackupTime
			return c.state.Last.IsZero() && at == nil || at != nil && at.Time.Equal(c.state.Last)
		})
		require.Contains(t, condition(av, "BackupCurrent").Message, c.says)
	}
	require.Equal(t, "registry-backup", av.Status.Database.BackupClaimName)
	require.Equal(t, corev1.EventTypeWarning, e.Event("registry", "Overdue").Type)
	require.Equal(t, corev1.EventTypeWarning, e.Event("registry", "Failed").Type)
	require.Equal(t, corev1.EventTypeNormal, e.Event("registry", "Current").Type)

	quiet(e, op)
	requests.Reset()
	before := reconciles(t, op.Metrics)
	touch(e, "registry", "rest")
	e.Eventually("a reconcile", func() error {
		if reconciles(t, op.Metrics) == before {
			return context.DeadlineExceeded
		}
		return nil
	})
	quiet(e, op)
	require.Empty(t, requests.Requests(), "asking the server is no request to the cluster")

	// A restart of the operator, and a server that does not answer it, lose nothing.
	op.Stop()
	e.Operator()
	touch(e, "registry", "restarted")
	e.AppView("registry", "Ready=True", "BackupCurrent=True/Current")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database.SQLite.Backup = nil })
	av = e.AppView("registry", "Ready=True", "BackupCurrent=False/NotConfigured")
	require.Nil(t, av.Status.Database.LastBackupTime)
	require.Empty(t, backedUp(e))
	e.Get("registry-backup", claim) // kept
}

func TestBackupsBesideTheDatabaseNeedNoClaim(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	e.Create(appView("registry", backups(v1alpha1.Backup{Destination: v1alpha1.BackupToDatabaseClaim})))
	av := e.AppView("registry", "Ready=True", "BackupCurrent=Unknown/Pending")
	require.Empty(t, av.Status.Database.BackupClaimName)
	require.Equal(t, map[string]string{
		names.BackupDir: names.DirData + "/backups", names.BackupInterval: "24h0m0s", names.BackupKeep: "7",
	}, backedUp(e))
	err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry-backup"}, &corev1.PersistentVolumeClaim{})
	require.True(t, apierrors.IsNotFound(err))
}

// What is wrong with the claim for backups keeps no registry from running.
func TestARegistryRunsWithoutTheClaimForItsBackups(t *testing.T) {
	t.Parallel()
	claimOf := func(name string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: controltest.Quantity("1Gi")}},
		}}
	}
	t.Run("one that does not exist", func(t *testing.T) {
		t.Parallel()
		e := controltest.New(t)
		e.Operator()
		e.Kubelet()
		e.Create(appView("registry", backups(v1alpha1.Backup{Claim: v1alpha1.BackupClaim{ExistingClaim: "mine"}})))
		av := e.AppView("registry", "Ready=True", "BackupCurrent=False/Failed")
		require.Contains(t, condition(av, "BackupCurrent").Message, "PersistentVolumeClaim mine, which does not exist")
		require.Empty(t, backedUp(e))
		e.Event("registry", "Failed")

		e.Create(claimOf("mine"))
		e.AppView("registry", "Ready=True", "BackupCurrent=Unknown/Pending")
		require.Equal(t, "mine", backedUp(e)[names.DirBackup])
		av.Namespace = e.Namespace
		require.NoError(t, e.Client.Delete(t.Context(), av))
		gone(e, av)
		mine := &corev1.PersistentVolumeClaim{}
		e.Get("mine", mine)
		require.Empty(t, mine.Labels, "never touched")
	})
	t.Run("one of somebody else's", func(t *testing.T) {
		t.Parallel()
		e := controltest.New(t)
		e.Operator()
		e.Kubelet()
		e.Create(claimOf("registry-backup"), appView("registry", backups(v1alpha1.Backup{})))
		av := e.AppView("registry", "Ready=True", "BackupCurrent=False/Failed")
		require.Contains(t, condition(av, "BackupCurrent").Message, "belongs to somebody else")
		require.Empty(t, backedUp(e))
	})
	t.Run("a change that the cluster refuses", func(t *testing.T) {
		t.Parallel()
		e := controltest.New(t)
		e.Operator()
		e.Kubelet()
		av := appView("registry", backups(v1alpha1.Backup{Claim: v1alpha1.BackupClaim{Size: new(controltest.Quantity("2Gi"))}}))
		e.Create(av)
		e.AppView("registry", "Ready=True", "BackupCurrent=Unknown/Pending")
		claim := &corev1.PersistentVolumeClaim{}
		e.Eventually("a volume of 2Gi", func() error {
			e.Get("registry-backup", claim)
			claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, corev1.ResourceList{corev1.ResourceStorage: controltest.Quantity("2Gi")}
			return e.Client.Status().Update(t.Context(), claim)
		})
		controltest.Update(e, av, func(av *v1alpha1.AppView) {
			av.Spec.Database.SQLite.Backup.Claim.Size = new(controltest.Quantity("4Gi")) // which no storage class makes of it
		})
		got := e.AppView("registry", "Ready=True", "BackupCurrent=False/Failed")
		require.Contains(t, condition(got, "BackupCurrent").Message, "spec.database.sqlite.backup.claim")
		require.Equal(t, "registry-backup", backedUp(e)[names.DirBackup], "what there is goes on being used")
		controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database.SQLite.Backup.Claim.Size = nil })
		e.AppView("registry", "Ready=True", "BackupCurrent=Unknown/Pending")
	})
	t.Run("a volume that is gone", func(t *testing.T) {
		t.Parallel()
		e := controltest.New(t)
		e.Operator()
		e.Create(appView("registry", backups(v1alpha1.Backup{})))
		e.AppView("registry", "BackupCurrent=Unknown/Pending")
		claim := &corev1.PersistentVolumeClaim{}
		e.Get("registry-backup", claim)
		claim.Status.Phase = corev1.ClaimLost
		require.NoError(t, e.Client.Status().Update(t.Context(), claim))
		av := e.AppView("registry", "BackupCurrent=False/Failed")
		require.Contains(t, condition(av, "BackupCurrent").Message, "has lost its volume")
	})
}

func TestBackupsGoWithTheirAppViewAsItsPolicySays(t *testing.T) {
	t.Parallel()
	for policy, retained := range map[v1alpha1.Policy]bool{v1alpha1.Retain: true, v1alpha1.Delete: false} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			e, av := running(t, appView("registry", backups(v1alpha1.Backup{}), func(s *v1alpha1.AppViewSpec) { s.DeletionPolicy.Data = policy }))
			require.NoError(t, e.Client.Delete(t.Context(), av))
			gone(e, av)
			claim := &corev1.PersistentVolumeClaim{}
			err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry-backup"}, claim)
			if !retained {
				require.True(t, apierrors.IsNotFound(err) || !claim.DeletionTimestamp.IsZero())
				return
			}
			require.NoError(t, err)
			require.Equal(t, "true", claim.Labels[v1alpha1.LabelRetained])
			e.CollectGarbage(av)
			e.Create(appView("registry", backups(v1alpha1.Backup{})))
			e.AppView("registry", "Ready=True", "BackupCurrent=Unknown/Pending")
			e.Get("registry-backup", claim)
			require.NotContains(t, claim.Labels, v1alpha1.LabelRetained)
		})
	}
}
