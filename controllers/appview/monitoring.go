package appview

import (
	"context"
	"errors"
	"fmt"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// monitored says whether the AppView has, or will have, a ServiceMonitor.
func (r *Reconciler) monitored(ctx context.Context, sc *scope) bool {
	return sc.appView.Spec.Monitoring.ServiceMonitor != v1alpha1.ServiceMonitorDisabled && r.options.Kinds.Readable(ctx, optional.ServiceMonitor) == nil
}

// monitoring makes the ServiceMonitor. A registry without one serves as well: condition Monitored is not part of Ready.
func (r *Reconciler) monitoring(ctx context.Context, sc *scope) error {
	c := sc.conditions
	mode := sc.appView.Spec.Monitoring.ServiceMonitor
	live := optional.ServiceMonitor.New()
	var err error
	if mode == v1alpha1.ServiceMonitorDisabled {
		err = r.withdraw(ctx, sc, optional.ServiceMonitor.Kind, r.optional(optional.ServiceMonitor), live)
	} else {
		live, err = r.applyOptional(ctx, sc, optional.ServiceMonitor, render.ServiceMonitor(sc.appView))
	}
	stalled, isStalled := outcome.IsStalled(refusal(err, "spec.monitoring"))
	switch {
	case err == nil && mode == v1alpha1.ServiceMonitorDisabled:
		c.False(v1alpha1.ConditionMonitored, v1alpha1.ReasonNotRequested, "spec.monitoring.serviceMonitor is Disabled")
	case err == nil:
		c.True(v1alpha1.ConditionMonitored, v1alpha1.ReasonMonitored, fmt.Sprintf("ServiceMonitor %s has the servers scraped", live.GetName()))
	case isStalled:
		sc.again(refusedRetry)
		c.False(v1alpha1.ConditionMonitored, stalled.Reason, stalled.Error())
	case errors.Is(err, optional.ErrNotServed) && mode == v1alpha1.ServiceMonitorEnabled:
		sc.again(refusedRetry)
		c.False(v1alpha1.ConditionMonitored, v1alpha1.ReasonCRDNotServed,
			"spec.monitoring.serviceMonitor needs ServiceMonitor of monitoring.coreos.com/v1, which this cluster does not serve: install the Prometheus operator, or set it to Auto")
	case errors.Is(err, optional.ErrNotServed):
		c.False(v1alpha1.ConditionMonitored, v1alpha1.ReasonNotRequested, "this cluster does not serve ServiceMonitors, and spec.monitoring.serviceMonitor does not insist on one")
	case errors.Is(err, optional.ErrForbidden):
		sc.again(refusedRetry)
		c.False(v1alpha1.ConditionMonitored, v1alpha1.ReasonNotPermitted,
			"the operator's role does not let it write ServiceMonitors: see config/rbac/README.md, or set spec.monitoring.serviceMonitor to Disabled")
	default:
		return err
	}
	return nil
}
