package appview_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

// seriesOf are the metrics with a series of an object, by its name.
func seriesOf(t testing.TB, registry prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels, found := map[string]string{}, false
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
				found = found || l.GetName() == "name" && l.GetValue() == name
			}
			if found {
				out[fmt.Sprintf("%s %s=%s", f.GetName(), labels["type"], labels["status"])] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return out
}

func TestSeriesOfAnObjectGoWithIt(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	op := e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold"}}
	link.Spec.AppViewRef.Name = "registry"
	link.Spec.Hold.URL = v1alpha1.Origin(hold.URL)
	av := appView("registry", withoutDefault)
	e.Create(link, av)
	e.AppView("registry", "Ready=True", "HoldsHealthy=True")
	e.HoldLink("hold", "Ready=True", "Healthy=True")

	e.Until("the series of the AppView", func() bool { return seriesOf(t, op.Metrics, "registry")["atcr_appview_condition Ready=True"] == 1 })
	got := seriesOf(t, op.Metrics, "registry")
	require.Zero(t, got["atcr_appview_condition Ready=False"])
	require.Contains(t, got, "atcr_appview_next_rotation_timestamp_seconds =")
	for series := range got {
		require.NotContains(t, series, "BackupCurrent", "nobody asked for backups: nothing to alert on")
		require.NotContains(t, series, "Exposed")
	}
	e.Until("the series of the HoldLink", func() bool {
		links := seriesOf(t, op.Metrics, "hold")
		return links["atcr_holdlink_condition Ready=True"] == 1 && links["atcr_hold_up ="] == 1
	})

	require.NoError(t, e.Client.Delete(t.Context(), link))
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	for _, name := range []string{"registry", "hold"} {
		e.Until("no series of "+name, func() bool { return len(seriesOf(t, op.Metrics, name)) == 0 })
	}
}
