package holdlink

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
)

type metrics struct {
	condition    *prometheus.GaugeVec
	statusWrites prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		condition: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atcr_holdlink_condition",
			Help: "Conditions of HoldLinks: 1 for the status that the condition has.",
		}, []string{"namespace", "name", "type", "status"}),
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

// Condition types and statuses that have a series.
var (
	knownTypes    = append([]string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionHealthy}, parts...)
	knownStatuses = []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown}
)

func (m *metrics) observe(link *v1alpha1.HoldLink, conditions []metav1.Condition) {
	for _, kind := range knownTypes {
		has := metav1.ConditionStatus("")
		if c := meta.FindStatusCondition(conditions, kind); c != nil {
			has = c.Status
		}
		for _, status := range knownStatuses {
			value := 0.0
			if status == has {
				value = 1
			}
			m.condition.WithLabelValues(link.Namespace, link.Name, kind, string(status)).Set(value)
		}
	}
}

func (m *metrics) forget(key types.NamespacedName) {
	m.condition.DeletePartialMatch(prometheus.Labels{"namespace": key.Namespace, "name": key.Name})
}
