package holdlink

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/conditions"
)

type metrics struct {
	condition    *conditions.Gauge
	statusWrites prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		condition: conditions.NewGauge("atcr_holdlink_condition",
			"Conditions of HoldLinks: 1 for the status that the condition has.", knownTypes),
		statusWrites: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_holdlink_status_writes_total", Help: "Writes of HoldLink status.",
		}),
	}
	for _, c := range []prometheus.Collector{m.condition, m.statusWrites} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// knownTypes of conditions have a series.
var knownTypes = append([]string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionHealthy}, parts...)

func (m *metrics) observe(link *v1alpha1.HoldLink, now []metav1.Condition) {
	m.condition.Set(types.NamespacedName{Namespace: link.Namespace, Name: link.Name}, now)
}

func (m *metrics) forget(key types.NamespacedName) {
	m.condition.Forget(key)
}
