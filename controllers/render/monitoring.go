package render

import (
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

// ServiceMonitor has the pods behind the Service scraped. Their port for metrics is not one of the Service's, since that
// one may be exposed to the world: targetPort finds it at the pods.
func ServiceMonitor(av *v1alpha1.AppView) *unstructured.Unstructured {
	selector := map[string]any{}
	for k, v := range Selector(av.Name) {
		selector[k] = v
	}
	o := object(av, ServiceMonitorKind, av.Name, map[string]any{
		"selector": map[string]any{"matchLabels": selector},
		// honorLabels: metrics name the kind of service that was called, not the Kubernetes Service.
		"endpoints": []any{map[string]any{"targetPort": debugPortName, "path": names.PathMetrics, "honorLabels": true}},
	})
	labels := maps.Clone(av.Spec.Monitoring.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, Labels(av))
	o.SetLabels(labels)
	return o
}
