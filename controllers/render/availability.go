package render

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"

	"atcr.io/operator/api/v1alpha1"
)

// WantsBudget says whether there are several pods to keep.
func WantsBudget(av *v1alpha1.AppView, s Settings) bool {
	return av.Spec.Availability.PDB != v1alpha1.AutoSwitchDisabled && s.PostgreSQL() && (s.Replicas > 1 || av.Spec.Autoscaling != nil)
}

// Budget lets one pod of the server go at a time. A pod that is not ready serves nobody and may always go: it must not
// hold up the node it is on.
func Budget(av *v1alpha1.AppView) *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	return policyv1ac.PodDisruptionBudget(av.Name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithOwnerReferences(owner(av)).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithMaxUnavailable(intstr.FromInt32(1)).
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(Selector(av.Name))))
}

// spread is over nodes first, then zones. It is there for every number of replicas that a PostgreSQL allows, so that
// scaling replaces no pod; and it only prefers, so that a small cluster runs them all the same.
func spread(av *v1alpha1.AppView, s Settings) []*corev1ac.TopologySpreadConstraintApplyConfiguration {
	if av.Spec.Availability.TopologySpread == v1alpha1.AutoSwitchDisabled || !s.PostgreSQL() {
		return nil
	}
	var out []*corev1ac.TopologySpreadConstraintApplyConfiguration
	for _, key := range []string{corev1.LabelHostname, corev1.LabelTopologyZone} {
		out = append(out, corev1ac.TopologySpreadConstraint().
			WithTopologyKey(key).
			WithMaxSkew(1).
			WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithMatchLabelKeys("pod-template-hash"). // pods of an older template are about to go
			WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(Selector(av.Name))))
	}
	return out
}
