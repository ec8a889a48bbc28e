package appview_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/keyset"
)

func TestMain(m *testing.M) {
	// Where ServiceMonitors are served each AppView has one: package manager has those tests.
	os.Exit(controltest.Main(m, controltest.Promise{Kind: "AppView", Except: []string{v1alpha1.ConditionMonitored}}))
}

const (
	holdDID    = "did:web:hold.example.com"
	anotherDID = "did:web:other.example.com"
)

// appView is one with an explicit default hold, so that it needs no HoldLink.
func appView(name string, change ...func(*v1alpha1.AppViewSpec)) *v1alpha1.AppView {
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: name}}
	av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: holdDID}
	for _, c := range change {
		c(&av.Spec)
	}
	return av
}

// running is an environment of its own in which an operator with options has made av's registry ready.
func running(t *testing.T, av *v1alpha1.AppView, options ...controltest.Option) (*controltest.Env, *v1alpha1.AppView) {
	t.Helper()
	e := controltest.New(t)
	e.Operator(options...)
	e.Kubelet()
	e.Create(av)
	e.AppView(av.Name, "Ready=True")
	return e, av
}

func withoutDefault(s *v1alpha1.AppViewSpec) { s.DefaultHold = nil }

func runtimeFile(e *controltest.Env, name string) *names.Runtime {
	e.Helper()
	cm := &corev1.ConfigMap{}
	e.Get(name+"-runtime", cm)
	r, err := names.ParseRuntime([]byte(cm.Data[names.FileRuntime]))
	require.NoError(e, err)
	return r
}

func currentKid(e *controltest.Env, name string) string {
	e.Helper()
	s := &corev1.Secret{}
	e.Get(name+"-signing", s)
	set, err := keyset.Parse(s.Data)
	require.NoError(e, err)
	return set.Current.Kid
}

func TestApplyingAnAppViewGivesARunningRegistry(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	e.Create(appView("registry", func(s *v1alpha1.AppViewSpec) { s.BaseURL = "https://registry.example.com" }))

	av := e.AppView("registry", "Ready=True", "Reconciling=", "Stalled=", "KeysReady=True/Generated",
		"DatabaseReady=True/ClaimBound", "DefaultHoldResolved=True/Resolved", "Available=True/MinimumReplicasAvailable", "HoldsHealthy=Unknown/Unknown", "Accepted=True/Accepted")
	require.Equal(t, "https://registry.example.com", av.Status.URL)
	require.Equal(t, controltest.Image, av.Status.Image)
	require.Equal(t, "v0", av.Status.Version)
	require.EqualValues(t, 1, av.Status.Replicas)
	require.Equal(t, "app.kubernetes.io/instance=registry,app.kubernetes.io/name=atcr-appview", av.Status.Selector)
	require.Equal(t, &v1alpha1.DefaultHoldStatus{DID: holdDID, Source: v1alpha1.DefaultHoldExplicit}, av.Status.DefaultHold)
	require.Equal(t, currentKid(e, "registry"), av.Status.Keys.Signing.Current.Kid)

	svc := &corev1.Service{}
	e.Get("registry", svc)
	file := runtimeFile(e, "registry")
	require.Equal(t, holdDID, file.DefaultHoldDID)
	for _, host := range []string{
		"registry:5000", "registry." + e.Namespace + ":5000", "registry." + e.Namespace + ".svc:5000",
		"registry." + e.Namespace + ".svc.cluster.local:5000", svc.Spec.ClusterIP + ":5000",
	} {
		require.Contains(t, file.AllowedHosts, host)
	}
	e.Event("registry", "KeyGenerated")
	e.Event("registry", "Ready")
}

func TestThePodsAreRestrictedAndFindTheirFiles(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	// The cluster itself judges the pods by the restricted profile.
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace}}
	controltest.Update(e, ns, func(ns *corev1.Namespace) { ns.Labels["pod-security.kubernetes.io/enforce"] = "restricted" })
	e.Operator()
	e.Kubelet()
	e.Create(appView("registry"))
	e.AppView("registry", "Ready=True")

	d := &appsv1.Deployment{}
	e.Get("registry", d)
	pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
	pod.Name = "p"
	e.Create(pod)

	require.Equal(t, appsv1.RecreateDeploymentStrategyType, d.Spec.Strategy.Type)
	c := pod.Spec.Containers[0]
	env := map[string]string{}
	for _, v := range c.Env {
		env[v.Name] = v.Value
	}
	require.Equal(t, "true", env[names.AuthKeyRequired])
	mounted := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounted[m.MountPath] = m.Name
	}
	require.Contains(t, mounted, names.DirSigning)
	require.Contains(t, mounted, names.DirRuntime)
	require.Equal(t, names.DirRuntime+"/"+names.FileRuntime, env[names.RuntimeFile])
	require.Greater(t, *pod.Spec.TerminationGracePeriodSeconds, int64(25), "the server drains for 25 s")
}

func TestWithoutAHoldNothingRunsAndTheConditionSaysWhatToDo(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	e.Create(appView("registry", withoutDefault))

	av := e.AppView("registry", "Ready=False/NoHold", "Reconciling=True/Progressing", "Stalled=", "DefaultHoldResolved=False/NoHold", "Available=False/Waiting", "KeysReady=True")
	require.Contains(t, condition(av, "DefaultHoldResolved").Message, "spec.defaultHold.did")
	e.Event("registry", "NoHold")
	err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry"}, &appsv1.Deployment{})
	require.True(t, apierrors.IsNotFound(err))

	// The remedy works.
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: holdDID} })
	e.AppView("registry", "Ready=True")
}

func condition(av *v1alpha1.AppView, kind string) metav1.Condition {
	for _, c := range av.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

func TestADefaultHoldThatDoesNotExistIsNamed(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Create(appView("registry", func(s *v1alpha1.AppViewSpec) {
		s.DefaultHold = &v1alpha1.DefaultHold{HoldLinkRef: &v1alpha1.HoldLinkReference{Name: "nowhere"}}
	}))
	av := e.AppView("registry", "Ready=False/NoHold")
	require.Contains(t, condition(av, "DefaultHoldResolved").Message, e.Namespace+"/nowhere")
}

func TestWhatTheServerCanReloadCausesNoRollout(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	d := &appsv1.Deployment{}
	e.Get("registry", d)

	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.DefaultHold.DID = anotherDID
		av.Spec.AllowedHosts = []v1alpha1.Host{"registry.lan:5000"}
		av.Spec.Network.AllowedPrivateCIDRs = []v1alpha1.CIDR{"10.0.0.0/8"}
		av.Spec.Network.AllowedPrivatePorts = []int32{2583}
	})
	e.AppView("registry", "Ready=True")
	file := runtimeFile(e, "registry")
	require.Equal(t, anotherDID, file.DefaultHoldDID)
	require.Contains(t, file.AllowedHosts, "registry.lan:5000")
	require.Equal(t, []string{"10.0.0.0/8"}, file.AllowedPrivateCIDRs)
	require.Equal(t, []int{2583}, file.AllowedPrivatePorts)
	after := &appsv1.Deployment{}
	e.Get("registry", after)
	require.Equal(t, d.Generation, after.Generation, "the Deployment did not change")

	// A variable is read at start: that does change it.
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Logging.Level = "debug" })
	e.Eventually("a new pod template", func() error {
		e.Get("registry", after)
		if after.Generation == d.Generation {
			return fmt.Errorf("generation is still %d", d.Generation)
		}
		return nil
	})
}

func TestASpecThatCannotWorkStallsAndWhatRunsGoesOn(t *testing.T) {
	t.Parallel()
	var requests controltest.Counter
	e, av := running(t, appView("registry"), controltest.Counted(&requests))
	d := &appsv1.Deployment{}
	e.Get("registry", d)

	// The CRD cannot express that a label must be one.
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.PodTemplate.Metadata.Labels = map[string]string{"not a label": "x"}
		av.Spec.Logging.Level = "debug"
	})
	got := e.AppView("registry", "Ready=False/InvalidSpec", "Stalled=True/InvalidSpec", "Reconciling=", "Accepted=False/InvalidSpec")
	require.Contains(t, condition(got, "Accepted").Message, "spec.podTemplate.metadata.labels")
	e.Event("registry", "InvalidSpec")
	after := &appsv1.Deployment{}
	e.Get("registry", after)
	require.Equal(t, d.Generation, after.Generation)
	noHotLoop(t, &requests)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.PodTemplate.Metadata.Labels = nil })
	e.AppView("registry", "Ready=True", "Stalled=")
}

func TestAnObjectOfSomebodyElseIsNotTouched(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "registry"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "other-signing"}, StringData: map[string]string{"mine": "yes"}}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "third-data"}}
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: controltest.Quantity("1Gi")}
	e.Create(svc, secret, claim, appView("registry"), appView("other"), appView("third"))

	av := e.AppView("registry", "Ready=False/NotPermitted", "Accepted=False/NotPermitted", "Stalled=True/NotPermitted")
	require.Contains(t, condition(av, "Ready").Message, "Service registry exists and belongs to somebody else")
	after := &corev1.Service{}
	e.Get("registry", after)
	require.Equal(t, svc.ResourceVersion, after.ResourceVersion)

	av = e.AppView("other", "Ready=False/SecretNotOwned", "Stalled=True/SecretNotOwned", "KeysReady=False/SecretNotOwned")
	require.Contains(t, condition(av, "KeysReady").Message, "other-signing")
	e.Event("other", "SecretNotOwned")

	av = e.AppView("third", "Ready=False/ClaimNotOwned", "Stalled=True/ClaimNotOwned", "DatabaseReady=False/ClaimNotOwned")
	require.Contains(t, condition(av, "DatabaseReady").Message, "PersistentVolumeClaim third-data exists and belongs to somebody else")
	e.Event("third", "ClaimNotOwned")
}

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	e, _ := running(t, appView("registry"))

	d := &appsv1.Deployment{}
	e.Get("registry", d)
	controltest.Update(e, d, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "evil.test/x" })
	e.Eventually("the image is ours again", func() error {
		e.Get("registry", d)
		if got := d.Spec.Template.Spec.Containers[0].Image; got != controltest.Image {
			return fmt.Errorf("image is %s", got)
		}
		return nil
	})
	require.NoError(t, e.Client.Delete(t.Context(), d))
	e.Eventually("the Deployment is back", func() error {
		return e.Client.Get(t.Context(), client.ObjectKeyFromObject(d), &appsv1.Deployment{})
	})
	e.AppView("registry", "Ready=True")
}

func TestAServiceEditedByHandIsRepaired(t *testing.T) {
	t.Parallel()
	e, _ := running(t, appView("registry"))
	svc := &corev1.Service{}
	e.Get("registry", svc)
	controltest.Update(e, svc, func(s *corev1.Service) { s.Spec.Ports[0].Port = 6000; s.Spec.Selector["more"] = "x" })
	e.Eventually("the port is ours again", func() error {
		e.Get("registry", svc)
		if p := svc.Spec.Ports; len(p) != 1 || p[0].Port != 5000 {
			return fmt.Errorf("ports are %v", p)
		}
		return nil
	})
	e.AppView("registry", "Ready=True")
}

func TestSuspendedMeansHandsOff(t *testing.T) {
	t.Parallel()
	e, av := running(t, appView("registry"))
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Reconciliation = v1alpha1.Suspended
		av.Spec.Logging.Level = "debug"
	})
	e.AppView("registry", "Ready=Unknown/Suspended", "Reconciling=True/Suspended")
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	require.EqualValues(t, 1, d.Generation)
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Reconciliation = v1alpha1.Active })
	e.AppView("registry", "Ready=True")
	e.Get("registry", d)
	require.EqualValues(t, 2, d.Generation)

	// Deletion works while suspended.
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Reconciliation = v1alpha1.Suspended })
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
}

func gone(e *controltest.Env, o client.Object) {
	e.Helper()
	e.Eventually(o.GetName()+" is gone", func() error {
		err := e.Client.Get(e.Context(), client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there, or: %w", err)
	})
}
