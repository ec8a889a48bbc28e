package probe

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
)

func TestTheSeriesOfAHoldSayWhetherItIsUpAndHowOftenItChanged(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, err := newMetrics(registry)
	require.NoError(t, err)
	well, ill := State{Health: v1alpha1.Healthy}, State{Health: v1alpha1.Unhealthy}
	failed := Result{Reason: v1alpha1.ReasonTimeout, Latency: time.Second}
	m.observe(one, well, Result{}, true)
	m.observe(one, ill, failed, true)
	m.observe(one, ill, failed, false)
	m.observe(one, well, Result{}, true)
	two := types.NamespacedName{Namespace: "n", Name: "two"}
	m.observe(two, State{Health: v1alpha1.Unknown}, failed, false)
	gone := types.NamespacedName{Namespace: "n", Name: "gone"}
	m.observe(gone, well, Result{}, true)
	m.forget(gone)

	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range series.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			got[f.GetName()+" "+labels["name"]+" "+labels["state"]] = series.GetGauge().GetValue() + series.GetCounter().GetValue() +
				float64(series.GetHistogram().GetSampleCount())
		}
	}
	require.Equal(t, map[string]float64{
		"atcr_hold_up one ": 1, "atcr_hold_up two ": 0, "atcr_hold_probe_duration_seconds  ": 6,
		"atcr_hold_transitions_total one Healthy": 2, "atcr_hold_transitions_total one Unhealthy": 1,
	}, got)
}
