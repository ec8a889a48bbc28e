package holdlink

import (
	"cmp"
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/links"
	"atcr.io/operator/controllers/probe"
	"atcr.io/operator/controllers/render"
)

const (
	defaultInterval  = time.Minute
	defaultTimeout   = 5 * time.Second
	defaultFailures  = 3
	defaultSuccesses = 1
	latencyStep      = 5 * time.Millisecond

	// firstAnswer is how long status waits for the first answer of a hold, which most give in some milliseconds: what was
	// found out about the hold and its health are then one write, here and in the AppView.
	firstAnswer = time.Second
)

// health hands the hold to the prober and repeats what the prober last made public.
func (r *Reconciler) health(_ context.Context, sc *scope) error {
	key := links.Key(sc.link)
	if !sc.callable || sc.refused != (refusal{}) || sc.status.Endpoint == "" || sc.status.LastResolvedTime == nil {
		r.prober.Forget(key)
		sc.status.Health = v1alpha1.HealthStatus{State: v1alpha1.Unknown}
		sc.conditions.Unknown(v1alpha1.ConditionHealthy, v1alpha1.ReasonUnknown, "the hold is not asked before it is resolved")
		return nil
	}
	h := sc.link.Spec.HealthCheck
	interval, timeout := pace(h)
	r.prober.Set(key, probe.Target{
		URL:              sc.status.Endpoint + cmp.Or(h.Path, names.PathHealth),
		Client:           r.resolver.Client(sc.link, sc.access),
		Interval:         interval,
		Timeout:          timeout,
		FailureThreshold: int(cmp.Or(h.FailureThreshold, defaultFailures)),
		SuccessThreshold: int(cmp.Or(h.SuccessThreshold, defaultSuccesses)),
	}, knownState(sc))
	s, ok := r.prober.Published(key)
	if !ok {
		return nil
	}
	if s.LastProbe.IsZero() {
		sc.awaited = firstAnswer - r.now().Sub(s.Since)
	}
	sc.status.Health = v1alpha1.HealthStatus{
		State:               s.Health,
		Since:               timeOf(s.Since),
		LastProbeTime:       timeOf(s.LastProbe),
		ConsecutiveFailures: int32(s.ConsecutiveFailures),
		LatencyMillis:       (s.Latency + latencyStep - 1).Truncate(latencyStep).Milliseconds(),
	}
	switch s.Health {
	case v1alpha1.Healthy:
		sc.conditions.True(v1alpha1.ConditionHealthy, v1alpha1.ReasonHealthy, "the hold answers at "+sc.status.Endpoint)
	case v1alpha1.Unhealthy:
		sc.conditions.False(v1alpha1.ConditionHealthy, s.Reason, fmt.Sprintf(
			"%s%s: %s. Check that the hold runs and that the operator can reach it", sc.status.Endpoint, cmp.Or(h.Path, names.PathHealth), explain[s.Reason]))
	default:
		sc.conditions.Unknown(v1alpha1.ConditionHealthy, v1alpha1.ReasonUnknown, "the hold was not asked often enough to tell")
	}
	return nil
}

// pace is how often a hold is asked, and how long it may take to answer: no longer than until it is asked again, which
// links that are older than the rule of the CRD do not say.
func pace(h v1alpha1.HealthCheck) (interval, timeout time.Duration) {
	interval = render.Duration(h.Interval, defaultInterval)
	return interval, min(render.Duration(h.Timeout, defaultTimeout), interval)
}

// explain puts the reasons of Healthy into words.
var explain = map[string]string{
	v1alpha1.ReasonUnreachable:    "no connection can be made",
	v1alpha1.ReasonTimeout:        "no answer within the timeout",
	v1alpha1.ReasonTLSError:       "its certificate is not trusted, or is for another name",
	v1alpha1.ReasonBadStatus:      "the answer is not 200",
	v1alpha1.ReasonBlockedAddress: "the address is one that the operator must not call (--allow-private-holds)",
}

// knownState is the state that status remembers from before a restart, if it speaks of this hold.
func knownState(sc *scope) probe.State {
	if sc.link.Status.Endpoint != sc.status.Endpoint || sc.link.Status.DID != sc.status.DID {
		return probe.State{}
	}
	h := sc.link.Status.Health
	s := probe.State{Health: h.State, ConsecutiveFailures: int(h.ConsecutiveFailures), Latency: time.Duration(h.LatencyMillis) * time.Millisecond}
	if h.Since != nil {
		s.Since = h.Since.Time
	}
	if h.LastProbeTime != nil {
		s.LastProbe = h.LastProbeTime.Time
	}
	s.Reason = v1alpha1.ReasonUnknown
	for _, c := range sc.link.Status.Conditions {
		if c.Type == v1alpha1.ConditionHealthy {
			s.Reason = c.Reason
		}
	}
	return s
}

// timeOf is t as the API keeps it: whole seconds, nil for never.
func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	out := metav1.NewTime(t.Truncate(time.Second))
	return &out
}
