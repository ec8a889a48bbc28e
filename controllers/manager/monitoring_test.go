package manager_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/manager"
	"atcr.io/operator/controllers/render"
)

// One test, in this order: a definition is the whole API server's.
func TestServiceMonitorsAreMadeOnceTheClusterServesThem(t *testing.T) {
	e := controltest.New(t)
	require.NoError(t, client.IgnoreNotFound(e.Client.Delete(t.Context(), e.Definition(optional.ServiceMonitor))))
	e.Until("the kind is not served", func() bool {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(optional.ServiceMonitor.GroupVersionKind)
		err := e.Client.List(t.Context(), list)
		return meta.IsNoMatchError(err) || apierrors.IsNotFound(err)
	})
	refuses := func(name string, status int) controltest.Option {
		return controltest.With(&controltest.Fault{Method: http.MethodPatch, Path: "/servicemonitors/" + name, Status: status})
	}
	e.Operator(controltest.Everywhere(), func(_ *rest.Config, o *manager.Options) {
		o.Operator = &render.Peer{Namespace: "atcr-system", Labels: map[string]string{"app": "operator"}}
	}, refuses("barred", http.StatusForbidden), refuses("odd", http.StatusUnprocessableEntity))
	e.Kubelet()
	create := func(name string, mode v1alpha1.ServiceMonitorMode) *v1alpha1.AppView {
		av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: name}}
		av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"}
		av.Spec.Monitoring = v1alpha1.Monitoring{ServiceMonitor: mode, Labels: map[string]string{"release": "prometheus"}}
		av.Spec.NetworkPolicy.Mode = v1alpha1.Enabled
		e.Create(av)
		return av
	}
	create("auto", "")
	wanted := create("wanted", v1alpha1.ServiceMonitorEnabled)
	create("off", v1alpha1.ServiceMonitorDisabled)
	e.AppView("auto", "Ready=True", "Monitored=False/NotRequested")
	e.AppView("wanted", "Ready=True", "Monitored=False/CRDNotServed")
	require.Equal(t, corev1.EventTypeWarning, e.Event("wanted", "CRDNotServed").Type)
	e.AppView("off", "Ready=True", "Monitored=False/NotRequested")
	require.Len(t, readers(e, "wanted"), 1)

	e.Install(optional.ServiceMonitor)
	e.AppView("auto", "Ready=True", "Monitored=True/Monitored")
	e.AppView("wanted", "Ready=True", "Monitored=True/Monitored")
	e.AppView("off", "Ready=True", "Monitored=False/NotRequested")
	for _, ev := range e.Events("auto") {
		require.NotContains(t, ev.Note, "Monitored:", "it was no failure before")
	}
	m := e.Object(optional.ServiceMonitor, "wanted")
	require.Equal(t, "prometheus", m.GetLabels()["release"])
	require.Equal(t, "wanted", m.GetOwnerReferences()[0].Name)
	endpoints, _, err := unstructured.NestedSlice(m.Object, "spec", "endpoints")
	require.NoError(t, err)
	endpoint := endpoints[0].(map[string]any)
	require.Equal(t, "debug", endpoint["targetPort"])
	require.Equal(t, "/metrics", endpoint["path"])
	selector, _, err := unstructured.NestedStringMap(m.Object, "spec", "selector", "matchLabels")
	require.NoError(t, err)
	svc := &corev1.Service{}
	e.Get("wanted", svc)
	require.True(t, labels.SelectorFromSet(selector).Matches(labels.Set(svc.Labels)), "it selects the Service")
	e.Until("Prometheus may read metrics", func() bool { return len(readers(e, "wanted")) == 2 })

	theirs := optional.ServiceMonitor.New()
	theirs.SetNamespace(e.Namespace)
	theirs.SetName("taken")
	theirs.Object["spec"] = map[string]any{"selector": map[string]any{}, "endpoints": []any{}}
	require.NoError(t, e.Client.Create(t.Context(), theirs))
	create("taken", v1alpha1.ServiceMonitorEnabled)
	e.AppView("taken", "Ready=True", "Monitored=False/NotPermitted")
	create("barred", "")
	barred := e.AppView("barred", "Ready=True", "Monitored=False/NotPermitted")
	require.Contains(t, meta.FindStatusCondition(barred.Status.Conditions, "Monitored").Message, "config/rbac/README.md")
	create("odd", "")
	e.AppView("odd", "Ready=True", "Monitored=False/InvalidSpec")

	controltest.Update(e, wanted, func(av *v1alpha1.AppView) { av.Spec.Monitoring.ServiceMonitor = v1alpha1.ServiceMonitorDisabled })
	e.AppView("wanted", "Ready=True", "Monitored=False/NotRequested")
	e.Until("the ServiceMonitor is gone", func() bool {
		return apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(m), m))
	})
	require.Len(t, readers(e, "wanted"), 1)
	require.NoError(t, e.Client.Delete(t.Context(), e.Definition(optional.ServiceMonitor)))
	e.AppView("auto", "Ready=True", "Monitored=False/NotRequested")
}

func TestThePrometheusOperatorTakesWhatConfigGivesIt(t *testing.T) {
	e := controltest.New(t)
	e.Install(optional.ServiceMonitor)
	e.Install(controltest.PrometheusRule)
	install(t, e, "manager") // the namespace
	kinds := map[string]bool{}
	for _, file := range []string{"monitor.yaml", "rules.yaml"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "config", "prometheus", file))
		require.NoError(t, err)
		d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
		for {
			o := &unstructured.Unstructured{}
			if d.Decode(o) != nil {
				break // the end, or less than the kinds below
			}
			require.NoError(t, e.Client.Create(t.Context(), o, client.FieldValidation(metav1.FieldValidationStrict)), "%s %s", o.GetKind(), o.GetName())
			kinds[o.GetKind()] = true
		}
	}
	require.Equal(t, map[string]bool{"Service": true, "ServiceMonitor": true, "PrometheusRule": true}, kinds)
}

// readers are who may reach the servers' port for metrics.
func readers(e *controltest.Env, name string) []networkingv1.NetworkPolicyPeer {
	e.Helper()
	np := &networkingv1.NetworkPolicy{}
	e.Get(name, np)
	return np.Spec.Ingress[1].From
}
