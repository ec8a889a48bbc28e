package conditions_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/controllers/internal/conditions"
)

func TestAGaugeShowsTheStatusOfEveryConditionOfEveryObject(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	g := conditions.NewGauge("x_condition", "Help.", []string{"Ready", "Stalled", "Extra"})
	require.NoError(t, registry.Register(g))
	one, two := types.NamespacedName{Namespace: "n", Name: "one"}, types.NamespacedName{Namespace: "n", Name: "two"}
	g.Set(one, []metav1.Condition{{Type: "Ready", Status: "False"}, {Type: "Extra", Status: "False", Reason: "NotRequested"}})
	g.Set(one, []metav1.Condition{{Type: "Ready", Status: "True"}, {Type: "Extra", Status: "False", Reason: "NotRequested"}})
	g.Set(two, []metav1.Condition{{Type: "Ready", Status: "Unknown"}})
	g.Forget(two)
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	got := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		got[labels["namespace"]+"/"+labels["name"]+" "+labels["type"]+"="+labels["status"]] = m.GetGauge().GetValue()
	}
	require.Equal(t, map[string]float64{
		"n/one Ready=True": 1, "n/one Ready=False": 0, "n/one Ready=Unknown": 0,
		"n/one Stalled=True": 0, "n/one Stalled=False": 0, "n/one Stalled=Unknown": 0,
	}, got)
}
