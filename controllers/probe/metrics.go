package probe

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
)

// metrics are a few bytes for each HoldLink: series are made when they are asked for, as in [conditions.Gauge].
type metrics struct {
	up, transitions *prometheus.Desc
	duration        prometheus.Histogram

	mu   sync.Mutex
	seen map[types.NamespacedName]*seen
}

// seen is what was seen of one hold.
type seen struct {
	up      bool
	changes [len(states)]uint32
}

var states = [...]v1alpha1.HealthState{v1alpha1.Healthy, v1alpha1.Unhealthy, v1alpha1.Unknown}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		up: prometheus.NewDesc("atcr_hold_up", "Whether the last check of a HoldLink's hold succeeded.", []string{"namespace", "name"}, nil),
		transitions: prometheus.NewDesc("atcr_hold_transitions_total", "Changes of a HoldLink's health, by what it became.",
			[]string{"namespace", "name", "state"}, nil),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "atcr_hold_probe_duration_seconds", Help: "How long checks of holds take.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		seen: map[types.NamespacedName]*seen{},
	}
	for _, c := range []prometheus.Collector{m, m.duration} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(key types.NamespacedName, s State, r Result, changed bool) {
	m.duration.Observe(r.Latency.Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	hold := m.seen[key]
	if hold == nil {
		hold = &seen{}
		m.seen[key] = hold
	}
	hold.up = r.Reason == ""
	for i, state := range states {
		if changed && s.Health == state {
			hold.changes[i]++
		}
	}
}

func (m *metrics) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, key)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) { to <- m.up; to <- m.transitions }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, hold := range m.seen {
		up := 0.0
		if hold.up {
			up = 1
		}
		to <- prometheus.MustNewConstMetric(m.up, prometheus.GaugeValue, up, key.Namespace, key.Name)
		for i, n := range hold.changes {
			if n > 0 {
				to <- prometheus.MustNewConstMetric(m.transitions, prometheus.CounterValue, float64(n), key.Namespace, key.Name, string(states[i]))
			}
		}
	}
}
