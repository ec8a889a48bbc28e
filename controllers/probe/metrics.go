package probe

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
)

type metrics struct {
	up          *prometheus.GaugeVec
	duration    prometheus.Histogram
	transitions *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atcr_hold_up", Help: "Whether the last check of a HoldLink's hold succeeded.",
		}, []string{"namespace", "name"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "atcr_hold_probe_duration_seconds", Help: "How long checks of holds take.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_hold_transitions_total", Help: "Changes of a HoldLink's health, by what it became.",
		}, []string{"namespace", "name", "state"}),
	}
	for _, c := range []prometheus.Collector{m.up, m.duration, m.transitions} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(key types.NamespacedName, s State, r Result, changed bool) {
	up := 0.0
	if r.Reason == "" {
		up = 1
	}
	m.up.WithLabelValues(key.Namespace, key.Name).Set(up)
	m.duration.Observe(r.Latency.Seconds())
	if changed {
		m.transitions.WithLabelValues(key.Namespace, key.Name, string(s.Health)).Inc()
	}
}

func (m *metrics) forget(key types.NamespacedName) {
	m.up.DeleteLabelValues(key.Namespace, key.Name)
	for _, s := range []v1alpha1.HealthState{v1alpha1.Healthy, v1alpha1.Unhealthy, v1alpha1.Unknown} {
		m.transitions.DeleteLabelValues(key.Namespace, key.Name, string(s))
	}
}
