package appview

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
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
	certificate  *prometheus.GaugeVec
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
		certificate: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atcr_appview_certificate_not_after_timestamp_seconds",
			Help: "When a certificate in a Secret that the spec names ends, Unix time: status.secretExpirations.",
		}, []string{"namespace", "name", "secret"}),
	}
	for _, c := range []prometheus.Collector{m.condition, m.statusWrites, m.rotations, m.rotation, m.notAfter, m.certificate} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// knownTypes of conditions have a series.
var knownTypes = append([]string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}, evented...)

func (m *metrics) observe(av *v1alpha1.AppView, now *v1alpha1.AppViewStatus) {
	keys := now.Keys.Signing
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
	for _, before := range av.Status.SecretExpirations {
		if !slices.ContainsFunc(now.SecretExpirations, func(s v1alpha1.SecretExpiration) bool { return s.Name == before.Name }) {
			m.certificate.DeleteLabelValues(av.Namespace, av.Name, before.Name)
		}
	}
	for _, s := range now.SecretExpirations {
		m.certificate.WithLabelValues(av.Namespace, av.Name, s.Name).Set(float64(s.NotAfter.Unix()))
	}
	m.condition.Set(types.NamespacedName{Namespace: av.Namespace, Name: av.Name}, now.Conditions)
}

func (m *metrics) forget(key types.NamespacedName) {
	m.rotation.DeleteLabelValues(key.Namespace, key.Name)
	of := prometheus.Labels{"namespace": key.Namespace, "name": key.Name}
	m.notAfter.DeletePartialMatch(of)
	m.certificate.DeletePartialMatch(of)
	m.condition.Forget(key)
}
