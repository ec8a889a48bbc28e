package appview_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

const (
	dockerConfig  = `{"auths":{"registry.example.com":{"auth":"YTpi"}}}`
	dockerConfig2 = `{"auths":{"registry.example.com":{"auth":"Yzpk"}}}`
)

// pullSecret is a Secret of the user's, whose changes are seen at once.
func pullSecret(config string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "regcred", Labels: map[string]string{v1alpha1.LabelWatch: "true"}},
		Type:       corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)},
	}
}

func copying(change ...func(*v1alpha1.PullSecrets)) func(*v1alpha1.AppViewSpec) {
	return func(s *v1alpha1.AppViewSpec) {
		p := &v1alpha1.PullSecrets{SourceSecretRef: v1alpha1.LocalReference{Name: "regcred"}}
		for _, c := range change {
			c(p)
		}
		s.ClusterPull = &v1alpha1.ClusterPull{PullSecrets: p}
	}
}

// consents is a namespace that opted in.
func consents(e *controltest.Env) string {
	e.Helper()
	return e.OtherNamespace(map[string]string{v1alpha1.LabelPullSecretsFrom: e.Namespace})
}

// account makes a service account, as the controller-manager makes that called default.
func account(e *controltest.Env, namespace, name string, secrets ...string) *corev1.ServiceAccount {
	e.Helper()
	a := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for _, s := range secrets {
		a.ImagePullSecrets = append(a.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	e.Create(a)
	return a
}

// secretIn is the Secret's pull configuration; empty: there is none.
func secretIn(e *controltest.Env, namespace string) string {
	e.Helper()
	s := &corev1.Secret{}
	err := e.Client.Get(e.Context(), client.ObjectKey{Namespace: namespace, Name: "regcred"}, s)
	require.NoError(e, client.IgnoreNotFound(err))
	return string(s.Data[corev1.DockerConfigJsonKey])
}

// lists is what an account lists.
func lists(e *controltest.Env, a *corev1.ServiceAccount) string {
	e.Helper()
	require.NoError(e, e.Client.Get(e.Context(), client.ObjectKeyFromObject(a), a))
	var names []string
	for _, s := range a.ImagePullSecrets {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

func label(e *controltest.Env, namespace, value string) {
	e.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	controltest.Update(e, ns, func(ns *corev1.Namespace) { ns.Labels[v1alpha1.LabelPullSecretsFrom] = value })
}

// Not parallel, like the others here: an operator of all namespaces has a hand in the namespaces of other tests.
func TestPullSecretsGoToNamespacesThatOptIn(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Everywhere(), controltest.Counted(&requests))
	e.Kubelet()
	a, b, stranger := consents(e), e.OtherNamespace(map[string]string{"team": "b"}), e.OtherNamespace(map[string]string{v1alpha1.LabelPullSecretsFrom: "elsewhere"})
	inA, builder, inB, inStranger := account(e, a, "default", "mine"), account(e, a, "builder"), account(e, b, "default"), account(e, stranger, "default")
	source := pullSecret(dockerConfig)
	e.Create(source)
	av := appView("registry", copying())
	e.Create(av)
	e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	require.Equal(t, dockerConfig, secretIn(e, a))
	e.Until("pods of the service account use it", func() bool { return lists(e, inA) == "mine regcred" })
	require.Equal(t, "PullSecretCopied", e.Event("registry", "PullSecretCopied").Reason)

	// A namespace opts in, with a service account that comes later.
	label(e, b, e.Namespace)
	e.Until("the namespace has a copy", func() bool { return secretIn(e, b) == dockerConfig })
	e.Until("and its service account", func() bool { return lists(e, inB) == "regcred" })
	late := consents(e)
	e.Until("the new namespace has a copy", func() bool { return secretIn(e, late) == dockerConfig })
	inLate := account(e, late, "default")
	e.Until("the new service account lists it", func() bool { return lists(e, inLate) == "regcred" })
	e.Until("the count is right", func() bool { return e.AppView("registry").Status.PullSecrets.Namespaces == 3 })
	require.Empty(t, secretIn(e, stranger))
	require.Empty(t, lists(e, inStranger))
	require.Empty(t, lists(e, builder))

	quiet(e, op)
	requests.Reset()
	touch(e, "registry", "a")
	quiet(e, op)
	require.Empty(t, requests.Requests())

	// In place: the kubelet remembers with which Secret it pulled.
	before := &corev1.Secret{}
	require.NoError(t, e.Client.Get(t.Context(), client.ObjectKey{Namespace: a, Name: "regcred"}, before))
	controltest.Update(e, source, func(s *corev1.Secret) { s.Data[corev1.DockerConfigJsonKey] = []byte(dockerConfig2) })
	for _, ns := range []string{a, b, late} {
		e.Until("the copy is new", func() bool { return secretIn(e, ns) == dockerConfig2 })
	}
	after := &corev1.Secret{}
	require.NoError(t, e.Client.Get(t.Context(), client.ObjectKey{Namespace: a, Name: "regcred"}, after))
	require.Equal(t, before.UID, after.UID)

	// What somebody did by hand is put right.
	require.NoError(t, e.Client.Delete(t.Context(), after))
	e.Until("the copy is back", func() bool { return secretIn(e, a) == dockerConfig2 })
	controltest.Update(e, inB, func(a *corev1.ServiceAccount) { a.ImagePullSecrets = nil })
	e.Until("the entry is back", func() bool { return lists(e, inB) == "regcred" })

	// Other accounts, and a narrower choice of namespaces.
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.ClusterPull.PullSecrets.ServiceAccounts = []v1alpha1.ObjectName{"builder"}
	})
	e.Until("the other account lists it", func() bool { return lists(e, builder) == "regcred" })
	e.Until("the first no longer", func() bool { return lists(e, inA) == "mine" && lists(e, inB) == "" })
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.ClusterPull.PullSecrets.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}
		av.Spec.ClusterPull.PullSecrets.ServiceAccounts = []v1alpha1.ObjectName{}
	})
	e.Until("only one namespace is left", func() bool {
		return secretIn(e, a) == "" && secretIn(e, late) == "" && secretIn(e, b) == dockerConfig2 && lists(e, builder) == ""
	})
	controltest.Update(e, av, func(av *v1alpha1.AppView) { copying()(&av.Spec) })
	e.Until("everything is back", func() bool {
		return secretIn(e, a) == dockerConfig2 && lists(e, inA) == "mine regcred" && lists(e, inB) == "regcred"
	})

	// A namespace takes its consent back.
	label(e, a, "nobody")
	e.Until("the copy is gone, and the entry", func() bool { return secretIn(e, a) == "" && lists(e, inA) == "mine" })
	require.Empty(t, inA.Annotations)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.ClusterPull = nil })
	e.Until("nothing is left", func() bool {
		return secretIn(e, b) == "" && secretIn(e, late) == "" && lists(e, inB) == "" && lists(e, inLate) == ""
	})
	require.Nil(t, e.AppView("registry", "Ready=True", "ClusterPullReady=").Status.PullSecrets)
	require.Equal(t, dockerConfig2, secretIn(e, e.Namespace), "the source is the user's")
}

func TestPullSecretsGoWithTheirAppView(t *testing.T) {
	e := controltest.New(t)
	op := e.Operator(controltest.Everywhere())
	e.Kubelet()
	ns := consents(e)
	label(e, e.Namespace, e.Namespace)
	there, here := account(e, ns, "default", "mine"), account(e, e.Namespace, "default")
	e.Create(pullSecret(dockerConfig))
	av := appView("registry", copying())
	e.Create(av)
	e.Until("both service accounts list it", func() bool { return lists(e, there) == "mine regcred" && lists(e, here) == "regcred" })
	require.EqualValues(t, 1, e.AppView("registry", "ClusterPullReady=True").Status.PullSecrets.Namespaces)

	// Another operator, which has seen nothing of this, cleans up.
	op.Stop()
	e.Operator(controltest.Everywhere())
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	require.Empty(t, secretIn(e, ns))
	require.Equal(t, "mine", lists(e, there))
	require.Empty(t, lists(e, here))
	require.Equal(t, dockerConfig, secretIn(e, e.Namespace))
}

func TestASecretThatIsThereAlreadyIsNotOverwritten(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	e.Operator(controltest.Everywhere(), controltest.Counted(&requests))
	e.Kubelet()
	taken, free := consents(e), consents(e)
	theirs := pullSecret(dockerConfig2)
	theirs.Namespace, theirs.Labels = taken, nil
	e.Create(theirs, pullSecret(dockerConfig))
	inTaken := account(e, taken, "default")
	av := appView("registry", copying())
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=False/SecretNotOwned")
	require.Contains(t, condition(got, "ClusterPullReady").Message, "in namespace "+taken)
	e.Event("registry", "SecretNotOwned")
	require.Equal(t, dockerConfig2, secretIn(e, taken))
	require.Empty(t, lists(e, inTaken))
	require.Equal(t, dockerConfig, secretIn(e, free), "what is wrong in one namespace stops no other")
	for _, r := range requests.Requests() {
		require.NotContains(t, r, "GET /api/v1/namespaces/"+taken+"/secrets", "what is not ours is not read")
	}

	require.NoError(t, e.Client.Delete(t.Context(), theirs))
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "now")
	e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	require.Equal(t, dockerConfig, secretIn(e, taken))

	// Two AppViews do not fight over one name either.
	e.Create(appView("second", copying()))
	e.AppView("second", "Ready=True", "ClusterPullReady=False/SecretNotOwned")
	require.NoError(t, e.Client.Delete(t.Context(), &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "second", Namespace: e.Namespace}}))
	gone(e, &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "second", Namespace: e.Namespace}})
	require.Equal(t, dockerConfig, secretIn(e, taken))
}

func TestCopiesStayWhileTheirSourceCannotBeUsed(t *testing.T) {
	e := controltest.New(t)
	e.Operator(controltest.Everywhere())
	e.Kubelet()
	ns := consents(e)
	e.Create(appView("registry", copying()))
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=False/SecretNotFound")
	require.Contains(t, condition(got, "ClusterPullReady").Message, "sourceSecretRef names Secret regcred")
	source := pullSecret(dockerConfig)
	e.Create(source)
	e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	require.Equal(t, dockerConfig, secretIn(e, ns))

	require.NoError(t, e.Client.Delete(t.Context(), source))
	e.AppView("registry", "Ready=True", "ClusterPullReady=False/SecretNotFound")
	require.Equal(t, dockerConfig, secretIn(e, ns))
	for name, data := range map[string]map[string][]byte{
		"no entry": {"password": []byte("hunter2")}, "no JSON": {corev1.DockerConfigJsonKey: []byte("hunter2")},
		"no auths": {corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	} {
		wrong := pullSecret("")
		wrong.Type, wrong.Data = corev1.SecretTypeOpaque, data
		e.Create(wrong)
		got = e.AppView("registry", "Ready=True", "ClusterPullReady=False/PullSecretInvalid")
		require.NotContains(t, condition(got, "ClusterPullReady").Message, "hunter2", name)
		require.Equal(t, dockerConfig, secretIn(e, ns), name)
		require.NoError(t, e.Client.Delete(t.Context(), wrong))
		e.AppView("registry", "Ready=True", "ClusterPullReady=False/SecretNotFound")
	}
	e.Create(pullSecret(dockerConfig2))
	e.Until("the copy is new", func() bool { return secretIn(e, ns) == dockerConfig2 })
}

func TestANamespaceThatTakesNoMoreSecretsIsSaidToRefuse(t *testing.T) {
	e := controltest.New(t)
	e.Operator(controltest.Everywhere())
	e.Kubelet()
	full, free := consents(e), consents(e)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: full, Name: "none"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/secrets": controltest.Quantity("0")}}}
	e.Create(quota)
	quota.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: corev1.ResourceList{"count/secrets": controltest.Quantity("0")}}
	require.NoError(t, e.Client.Status().Update(t.Context(), quota))
	e.Eventually("the quota is enforced", func() error {
		probe := pullSecret(dockerConfig)
		probe.Namespace, probe.Name = full, "probe"
		if err := e.Client.Create(t.Context(), probe); !apierrors.IsForbidden(err) {
			_ = e.Client.Delete(t.Context(), probe)
			return fmt.Errorf("not refused: %w", err)
		}
		return nil
	})
	e.Create(pullSecret(dockerConfig), appView("registry", copying()))
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=False/NotPermitted")
	require.Contains(t, condition(got, "ClusterPullReady").Message, "in namespace "+full)
	require.Equal(t, dockerConfig, secretIn(e, free))
}

func TestAnOperatorOfSomeNamespacesSaysThatItCopiesNoPullSecrets(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	ns := consents(e)
	e.Create(pullSecret(dockerConfig))
	av := appView("registry", copying())
	e.Create(av)
	got := e.AppView("registry", "Ready=True", "ClusterPullReady=False/ClusterModeNeeded")
	require.Contains(t, condition(got, "ClusterPullReady").Message, "watches all namespaces")
	require.Empty(t, secretIn(e, ns))
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
}
