package appview_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

// leadsTo is the port of the pods that the Service leads to.
func leadsTo(e *controltest.Env) string {
	e.Helper()
	s := &corev1.Service{}
	e.Get("registry", s)
	p := s.Spec.Ports[0]
	require.Equal(e, p.Name, p.TargetPort.StrVal)
	require.Equal(e, p.Name == "https", p.AppProtocol != nil)
	return p.Name
}

// backendProtocol is what the Ingress tells its controller.
func backendProtocol(e *controltest.Env) string {
	e.Helper()
	o := &networkingv1.Ingress{}
	e.Get("registry", o)
	return o.Annotations["nginx.ingress.kubernetes.io/backend-protocol"]
}

// Pods that speak HTTP are found by another port than those that speak HTTPS.
func TestTheServiceLeadsToTheServerThatRunsWhateverKeepsTheNextOneBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens func(*v1alpha1.AppViewSpec)
		want    []string
	}{
		"a step that fails": {byPolicy, []string{"Ready=False/NotPermitted", "Available=True"}},
		"an image that cannot run": {func(s *v1alpha1.AppViewSpec) { s.Image = controltest.Unpullable },
			[]string{"Ready=False/ImagePullFailed", "Available=False/ImagePullFailed"}},
		"a database that is not there": {func(s *v1alpha1.AppViewSpec) { s.Database.SQLite.ExistingClaim = "nowhere" },
			[]string{"Ready=False/ClaimNotFound", "Available=True"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, av := running(t, appView("registry", nodesPull, byIngress))
			mine := issue(t, "mine", 90*24*time.Hour, forService(e, "registry", net.ParseIP(clusterIP(e))))
			e.Create(mine, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}) // somebody else's
			e.AppView("registry", "Ready=True", "ClusterPullReady=True")
			plain, told := deployment(e).Spec, nodeConfig(e).Data

			turnOn := func(s *v1alpha1.AppViewSpec) {
				withTLS("mine")(s)
				s.Exposure.Ingress.Annotations = map[string]string{"nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"}
			}
			turnOff := func(s *v1alpha1.AppViewSpec) { s.Exposure.TLS, s.Exposure.Ingress.Annotations = nil, nil }
			mend := func(s *v1alpha1.AppViewSpec) {
				s.Image, s.Database, s.NetworkPolicy = "", v1alpha1.Database{}, v1alpha1.NetworkPolicy{}
			}
			held := append(c.want, "Exposed=False/RollingOut", "ClusterPullReady=False/RollingOut")

			controltest.Update(e, av, func(av *v1alpha1.AppView) { turnOn(&av.Spec); c.happens(&av.Spec) })
			got := e.AppView("registry", held...)
			require.Contains(t, condition(got, "Exposed").Message, "leads to port http of the pods until one with port https")
			require.Equal(t, plain, deployment(e).Spec)
			require.Equal(t, "http", leadsTo(e))
			require.Empty(t, backendProtocol(e))
			require.Equal(t, told, nodeConfig(e).Data)

			controltest.Update(e, av, func(av *v1alpha1.AppView) { mend(&av.Spec) })
			e.AppView("registry", "Ready=True", "Exposed=True/Accepted", "ClusterPullReady=True")
			require.Equal(t, "https", leadsTo(e))
			require.Equal(t, "HTTPS", backendProtocol(e))
			require.Contains(t, nodeConfig(e).Data, "ca.crt")
			secure := deployment(e).Spec

			controltest.Update(e, av, func(av *v1alpha1.AppView) { turnOff(&av.Spec); c.happens(&av.Spec) })
			e.AppView("registry", held...)
			require.Equal(t, secure, deployment(e).Spec)
			require.Equal(t, "https", leadsTo(e))
			require.Equal(t, "HTTPS", backendProtocol(e))
			require.Contains(t, nodeConfig(e).Data, "ca.crt")

			controltest.Update(e, av, func(av *v1alpha1.AppView) { mend(&av.Spec) })
			e.AppView("registry", "Ready=True", "Exposed=True/Accepted", "ClusterPullReady=True")
			require.Equal(t, "http", leadsTo(e))
			require.Equal(t, told, nodeConfig(e).Data)
		})
	}
}

func TestTheServiceTurnsToNewPodsOnceOneOfThemIsReady(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	av := appView("registry", onNothing)
	e.Create(av, issue(t, "mine", 90*24*time.Hour, forService(e, "registry")))
	e.AppView("registry", "Available=False")
	status(e, controltest.Run)
	e.AppView("registry", "Ready=True")
	before := deployment(e).Generation

	controltest.Update(e, av, func(av *v1alpha1.AppView) { withTLS("mine")(&av.Spec) })
	e.Until("the new pods are asked for", func() bool { return deployment(e).Generation > before })
	rollout := func(ready int32) {
		t.Helper()
		status(e, func(d *appsv1.Deployment) {
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: ready, AvailableReplicas: ready}
		})
		e.Until("that is seen", func() bool { return e.AppView("registry").Status.ReadyReplicas == ready })
	}
	rollout(1)
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "now")
	e.Until("it is looked at", func() bool { return e.AppView("registry").Status.LastHandledReconcileAt == "now" })
	require.Equal(t, "http", leadsTo(e), "the pod that is ready speaks HTTP")
	e.AppView("registry", "Exposed=False/RollingOut", "Ready=False/RollingOut")

	rollout(2)
	e.AppView("registry", "Exposed=True/Accepted", "Ready=False/RollingOut")
	require.Equal(t, "https", leadsTo(e))
	status(e, controltest.Run)
	e.AppView("registry", "Ready=True")
}

func TestWhileNobodyCanLookAtTheCertificateWhatWasSaidOfItStays(t *testing.T) {
	t.Parallel()
	trouble := &controltest.Fault{Method: http.MethodGet, Path: "/secrets/mine"}
	trouble.Off()
	e, av := running(t, appView("registry", nodesPull, byIngress), controltest.With(trouble))
	mine := issue(t, "mine", 90*24*time.Hour, forService(e, "registry", net.ParseIP(clusterIP(e))))
	mine.Labels = nil // it is read, and not watched
	e.Create(mine)
	controltest.Update(e, av, func(av *v1alpha1.AppView) { withTLS("mine")(&av.Spec) })
	before := e.AppView("registry", "Ready=True", "Exposed=True/Accepted", "ClusterPullReady=True")
	told := nodeConfig(e).Data
	require.Contains(t, told, "ca.crt")

	trouble.On()
	controltest.Annotate(e, av, v1alpha1.AnnotationReconcile, "now")
	got := e.AppView("registry", "Ready=False/ProgressingWithRetry")
	for _, kind := range []string{"Exposed", "ClusterPullReady"} {
		require.Equal(t, condition(before, kind), condition(got, kind))
	}
	require.Equal(t, told, nodeConfig(e).Data)
	trouble.Off()
	e.AppView("registry", "Ready=True", "Exposed=True/Accepted", "ClusterPullReady=True")
	require.Equal(t, told, nodeConfig(e).Data)
}
