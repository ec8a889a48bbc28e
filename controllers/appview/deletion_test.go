package appview_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

func TestDeletingAnAppViewKeepsDataAndKeysAndANewOneTakesThemOver(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	kid := currentKid(e, "registry")
	claim := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", claim)

	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	e.Event("registry", "Retained")
	for name, o := range map[string]client.Object{
		"registry-data": &corev1.PersistentVolumeClaim{}, "registry-signing": &corev1.Secret{}, "registry-sealing": &corev1.Secret{},
		"registry-signing-next": &corev1.Secret{}, "registry-oauth": &corev1.Secret{}, "registry-did": &corev1.Secret{},
	} {
		e.Get(name, o)
		require.Equal(t, "true", o.GetLabels()[v1alpha1.LabelRetained], name)
		require.Equal(t, string(av.UID), o.GetAnnotations()[v1alpha1.AnnotationRetainedFrom], name)
		require.Empty(t, o.GetOwnerReferences(), "the garbage collector must not take %s", name)
		require.Zero(t, o.GetDeletionTimestamp(), name)
	}

	// What the old one owned is still there until the garbage collector comes.
	e.Create(appView("registry"))
	e.AppView("registry", "Ready=False/ProgressingWithRetry", "Stalled=")
	e.CollectGarbage(av)
	e.AppView("registry", "Ready=True")
	e.Event("registry", "Adopted")
	require.Equal(t, kid, currentKid(e, "registry"), "the same key signs")
	again := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", again)
	require.Equal(t, claim.UID, again.UID)
	require.NotContains(t, again.Labels, v1alpha1.LabelRetained)
}

func TestDeletingAnAppViewRemovesWhatThePolicySays(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.DeletionPolicy = v1alpha1.DeletionPolicy{Data: v1alpha1.Delete, Keys: v1alpha1.Delete}
	})
	e.Create(av)
	e.AppView("registry", "Ready=True")

	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	for _, name := range []string{"registry-signing", "registry-signing-next", "registry-oauth", "registry-did", "registry-sealing"} {
		err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: name}, &corev1.Secret{})
		require.True(t, apierrors.IsNotFound(err), name)
	}
	// A finalizer of the cluster keeps a claim until no pod uses it; there is no controller here that would lift it.
	claim := &corev1.PersistentVolumeClaim{}
	err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry-data"}, claim)
	require.True(t, apierrors.IsNotFound(err) || !claim.DeletionTimestamp.IsZero())
}

func TestAClaimOfTheUserIsUsedAndNeverDeleted(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.Database.SQLite.ExistingClaim = "mine"
		s.DeletionPolicy.Data = v1alpha1.Delete
	})
	e.Create(av)
	e.AppView("registry", "Ready=False/ClaimNotFound", "DatabaseReady=False/ClaimNotFound")

	claim := &corev1.PersistentVolumeClaim{}
	claim.Name = "mine"
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: controltest.Quantity("1Gi")}
	e.Create(claim)
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound")

	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	e.Get("mine", claim)
	require.Zero(t, claim.DeletionTimestamp)
	require.NotContains(t, claim.Labels, v1alpha1.LabelRetained)
}

// The claim that the operator once made is the user's from the moment that existingClaim names it.
func TestAClaimThatExistingClaimNamesIsNeverDeletedWhoeverMadeIt(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry", func(s *v1alpha1.AppViewSpec) { s.DeletionPolicy.Data = v1alpha1.Delete }))
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database.SQLite.ExistingClaim = "registry-data" })
	e.AppView("registry", "Ready=True")
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	claim := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", claim)
	require.Zero(t, claim.DeletionTimestamp)
}

// An AppView that never came so far as to take over what another one left behind has no say about it.
func TestWhatWasNotTakenOverIsNotDeleted(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)

	typo := appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.DeletionPolicy = v1alpha1.DeletionPolicy{Data: v1alpha1.Delete, Keys: v1alpha1.Delete}
		s.PodTemplate.Metadata.Labels = map[string]string{"not a label": "x"}
	})
	e.Create(typo)
	e.AppView("registry", "Accepted=False/InvalidSpec")
	require.NoError(t, e.Client.Delete(t.Context(), typo))
	gone(e, typo)
	for name, o := range map[string]client.Object{
		"registry-data": &corev1.PersistentVolumeClaim{}, "registry-signing": &corev1.Secret{}, "registry-sealing": &corev1.Secret{},
		"registry-signing-next": &corev1.Secret{}, "registry-oauth": &corev1.Secret{}, "registry-did": &corev1.Secret{},
	} {
		e.Get(name, o)
		require.Zero(t, o.GetDeletionTimestamp(), name)
	}
}

func TestWhatAnotherAppViewLeftBehindCanBeUsed(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	claim := &corev1.PersistentVolumeClaim{}
	claim.Name = "old-data"
	claim.Labels = map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelAppView: "old", v1alpha1.LabelRetained: "true"}
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: controltest.Quantity("1Gi")}
	e.Create(claim, appView("new", func(s *v1alpha1.AppViewSpec) { s.Database.SQLite.ExistingClaim = "old-data" }))
	e.AppView("new", "DatabaseReady=False/ClaimPending", "Available=False/Progressing")
	claim.Status.Phase = corev1.ClaimBound
	require.NoError(t, e.Client.Status().Update(t.Context(), claim))
	e.AppView("new", "DatabaseReady=True/ClaimBound")
}
