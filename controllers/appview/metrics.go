package appview

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
	rotations    *prometheus.CounterVec
	rotation     *prometheus.GaugeVec
	notAfter     *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		condition: conditions.NewGauge("atcr_appview_condition",
			"Conditions of AppViews: 1 for the status that the condition has. What the spec does not ask for has no series.", knownTypes),
		statusWrites: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_appview_status_writes_total", Help: "Writes of AppView status.",
		}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_appview_signing_key_rotations_total", Help: "Changes of signing keys: rotated, or revoked.",
		}, []string{"result"}),
		rotation: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atcr_appview_next_rotation_timestamp_seconds", Help: "When the next signing key is due to sign, Unix time.",
		}, []string{"namespace", "name"}),
		notAfter: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atcr_appview_signing_key_not_after_timestamp_seconds",
			Help: "When the certificate of a provided signing key ends, Unix time, by slot: current or next.",
		}, []string{"namespace", "name", "slot"}),
	}
	for _, c := range []prometheus.Collector{m.condition, m.statusWrites, m.rotations, m.rotation, m.notAfter} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// knownTypes of conditions have a series.
var knownTypes = append([]string{
	v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled, v1alpha1.ConditionHoldsHealthy,
	v1alpha1.ConditionExposed, v1alpha1.ConditionBackupCurrent, v1alpha1.ConditionMonitored,
}, parts...)

func (m *metrics) observe(av *v1alpha1.AppView, now []metav1.Condition, keys v1alpha1.SigningKeyStatus) {
	if t := keys.NextRotationTime; t != nil {
		m.rotation.WithLabelValues(av.Namespace, av.Name).Set(float64(t.Unix()))
	} else {
		m.rotation.DeleteLabelValues(av.Namespace, av.Name)
	}
	for slot, key := range map[string]*v1alpha1.KeyStatus{"current": keys.Current, "next": keys.Next} {
		if key != nil && key.NotAfter != nil {
			m.notAfter.WithLabelValues(av.Namespace, av.Name, slot).Set(float64(key.NotAfter.Unix()))
		} else {
			m.notAfter.DeleteLabelValues(av.Namespace, av.Name, slot)
		}
	}
	m.condition.Set(types.NamespacedName{Namespace: av.Namespace, Name: av.Name}, now)
}

func (m *metrics) forget(key types.NamespacedName) {
	m.rotation.DeleteLabelValues(key.Namespace, key.Name)
	m.notAfter.DeletePartialMatch(prometheus.Labels{"namespace": key.Namespace, "name": key.Name})
	m.condition.Forget(key)
}
