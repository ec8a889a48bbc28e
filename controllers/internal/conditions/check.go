package conditions

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
)

// Check says which rules of kstatus a status breaks. Tests run it on every status that is ever written.
func Check(generation, observedGeneration int64, conditions []metav1.Condition) []error {
	var broken []error
	fail := func(format string, args ...any) { broken = append(broken, fmt.Errorf(format, args...)) }
	if observedGeneration > generation {
		fail("status.observedGeneration %d is ahead of generation %d", observedGeneration, generation)
	}
	for _, c := range conditions {
		if c.ObservedGeneration > generation || c.ObservedGeneration <= 0 {
			fail("%s: observedGeneration %d with generation %d", c.Type, c.ObservedGeneration, generation)
		}
		if c.Reason == "" || c.Message == "" {
			fail("%s: reason %q and message %q must say something", c.Type, c.Reason, c.Message)
		}
	}
	if observedGeneration < 0 {
		if len(conditions) > 0 {
			fail("conditions without observedGeneration")
		}
		return broken
	}
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	reconciling := meta.FindStatusCondition(conditions, v1alpha1.ConditionReconciling)
	stalled := meta.FindStatusCondition(conditions, v1alpha1.ConditionStalled)
	if ready == nil {
		fail("there is no Ready condition")
		return broken
	}
	if ready.ObservedGeneration != observedGeneration {
		fail("Ready speaks of generation %d, status of %d", ready.ObservedGeneration, observedGeneration)
	}
	for _, c := range []*metav1.Condition{reconciling, stalled} {
		if c != nil && c.Status != metav1.ConditionTrue {
			fail("%s is there though it is not true", c.Type)
		}
		if c != nil && c.ObservedGeneration != observedGeneration {
			fail("%s is of an older generation", c.Type)
		}
	}
	for _, c := range conditions {
		if ready.Status == metav1.ConditionTrue && c.ObservedGeneration != observedGeneration {
			fail("Ready, and %s is of generation %d", c.Type, c.ObservedGeneration)
		}
	}
	switch {
	case reconciling != nil && stalled != nil:
		fail("Reconciling and Stalled at once")
	case ready.Status == metav1.ConditionTrue && (reconciling != nil || stalled != nil):
		fail("Ready while Reconciling or Stalled")
	case ready.Status != metav1.ConditionTrue && reconciling == nil && stalled == nil:
		fail("not Ready, and neither Reconciling nor Stalled says why")
	}
	return broken
}
