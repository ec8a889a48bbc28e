package probe

import (
	"time"

	"atcr.io/operator/api/v1alpha1"
)

// State of a hold.
type State struct {
	Health              v1alpha1.HealthState
	Reason              string // of the condition Healthy
	Since               time.Time
	LastProbe           time.Time
	ConsecutiveFailures int
	Latency             time.Duration
}

// Result of one check: Reason is empty when the hold is well.
type Result struct {
	Reason  string
	Latency time.Duration
}

// record folds a result into s and says whether the health changed. A hold that was never judged is well at its first
// good answer; one that counts as ill needs successes good answers in a row.
func record(s State, streak *int, r Result, failures, successes int, now time.Time) (State, bool) {
	before := s.Health
	s.LastProbe, s.Latency = now, r.Latency
	if r.Reason == "" {
		s.ConsecutiveFailures = 0
		*streak++
		if s.Health != v1alpha1.Unhealthy || *streak >= successes {
			s.Health, s.Reason = v1alpha1.Healthy, v1alpha1.ReasonHealthy
		}
	} else {
		s.ConsecutiveFailures++
		*streak = 0
		if s.Health == v1alpha1.Unhealthy || s.ConsecutiveFailures >= failures {
			s.Health, s.Reason = v1alpha1.Unhealthy, r.Reason
		}
	}
	if s.Health == before {
		return s, false
	}
	s.Since = now
	return s, true
}
