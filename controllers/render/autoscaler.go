package render

import (
	"cmp"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"

	"atcr.io/operator/api/v1alpha1"
)

// Autoscaler scales the AppView itself, not its Deployment: spec.replicas stays the one place that says how many there
// are, and kubectl scale and a pause by replicas: 0 go on working.
func Autoscaler(av *v1alpha1.AppView) *autoscalingv2ac.HorizontalPodAutoscalerApplyConfiguration {
	a := av.Spec.Autoscaling
	return autoscalingv2ac.HorizontalPodAutoscaler(av.Name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithOwnerReferences(owner(av)).
		WithSpec(autoscalingv2ac.HorizontalPodAutoscalerSpec().
			WithScaleTargetRef(autoscalingv2ac.CrossVersionObjectReference().
				WithAPIVersion(v1alpha1.SchemeGroupVersion.String()).
				WithKind("AppView").
				WithName(av.Name)).
			WithMinReplicas(cmp.Or(a.Min, v1alpha1.DefaultAutoscalingMin)).
			WithMaxReplicas(a.Max).
			WithMetrics(autoscalingv2ac.MetricSpec().
				WithType(autoscalingv2.ResourceMetricSourceType).
				WithResource(autoscalingv2ac.ResourceMetricSource().
					WithName(corev1.ResourceCPU).
					WithTarget(autoscalingv2ac.MetricTarget().
						WithType(autoscalingv2.UtilizationMetricType).
						WithAverageUtilization(cmp.Or(a.TargetCPU, v1alpha1.DefaultAutoscalingTargetCPU))))))
}
