// Package conditions keeps the conditions of an object by the rules of kstatus: every condition says of which
// generation it speaks, Ready sums the others up, and Reconciling and Stalled are there only while true, never both.
package conditions

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
)

// maxMessage is the API's limit.
const maxMessage = 32768

// Set is the conditions of one object as one reconcile finds them.
type Set struct {
	Conditions []metav1.Condition
	Generation int64
	Now        metav1.Time

	stored []metav1.Condition // not written to
}

// New starts from the conditions that the object has.
func New(old []metav1.Condition, generation int64, now metav1.Time) *Set {
	return &Set{Conditions: slices.Clone(old), Generation: generation, Now: now, stored: old}
}

// True, False and Unknown set a condition of this generation.
func (s *Set) True(kind, reason, message string) {
	s.set(kind, metav1.ConditionTrue, reason, message)
}

// False sets a condition of this generation.
func (s *Set) False(kind, reason, message string) {
	s.set(kind, metav1.ConditionFalse, reason, message)
}

// Unknown sets a condition of this generation.
func (s *Set) Unknown(kind, reason, message string) {
	s.set(kind, metav1.ConditionUnknown, reason, message)
}

func (s *Set) set(kind string, status metav1.ConditionStatus, reason, message string) {
	if len(message) > maxMessage {
		message = message[:maxMessage]
	}
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: s.Generation, LastTransitionTime: s.Now,
	})
	// One that ends as it was has not changed, whatever it was meanwhile.
	if was := meta.FindStatusCondition(s.stored, kind); was != nil && was.Status == status {
		s.Get(kind).LastTransitionTime = was.LastTransitionTime
	}
}

// Drop takes a condition away that nothing asks about any more.
func (s *Set) Drop(kind string) { meta.RemoveStatusCondition(&s.Conditions, kind) }

// Get is the condition of that type, or nil.
func (s *Set) Get(kind string) *metav1.Condition { return meta.FindStatusCondition(s.Conditions, kind) }

// Summarize sets Ready, Reconciling and Stalled. Ready is true when every condition named by parts, most important
// first, is true for this generation; else it repeats the first that is not. stalled says that only the user can help;
// retry, when not empty, that a request failed and is tried again.
func (s *Set) Summarize(parts []string, stalled bool, retry string) {
	blocking := s.blocking(parts)
	if blocking == nil && retry == "" {
		s.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "everything that was asked for is there")
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionStalled)
		s.sort()
		return
	}
	reason, message := v1alpha1.ReasonProgressingWithRetry, retry
	if retry == "" {
		reason, message = blocking.Reason, blocking.Message
	}
	s.False(v1alpha1.ConditionReady, reason, message)
	if stalled {
		s.True(v1alpha1.ConditionStalled, reason, message)
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
	} else {
		if retry == "" && reason != v1alpha1.ReasonRollingOut && reason != v1alpha1.ReasonSuspended {
			reason = v1alpha1.ReasonProgressing
		}
		s.True(v1alpha1.ConditionReconciling, reason, message)
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionStalled)
	}
	s.sort()
}

// Suspend says that the object is left as it is: its conditions keep what was last seen.
func (s *Set) Suspend() {
	const message = "spec.reconciliation is Suspended: nothing is changed or looked at until it is Active"
	s.Unknown(v1alpha1.ConditionReady, v1alpha1.ReasonSuspended, message)
	s.True(v1alpha1.ConditionReconciling, v1alpha1.ReasonSuspended, message)
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionStalled)
	s.sort()
}

func (s *Set) blocking(parts []string) *metav1.Condition {
	for _, p := range parts {
		switch c := s.Get(p); {
		case c == nil || c.ObservedGeneration != s.Generation:
			return &metav1.Condition{Reason: v1alpha1.ReasonProgressing, Message: p + " is not known yet"}
		case c.Status != metav1.ConditionTrue:
			return c
		}
	}
	return nil
}

// sort makes the order stable: Ready first, then by name.
func (s *Set) sort() {
	rank := func(c metav1.Condition) string {
		if c.Type == v1alpha1.ConditionReady {
			return ""
		}
		return c.Type
	}
	slices.SortStableFunc(s.Conditions, func(a, b metav1.Condition) int { return strings.Compare(rank(a), rank(b)) })
}

// Transition is a condition that changed.
type Transition struct {
	Type    string
	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// benign are reasons of things that pass by themselves: they are worth a condition, not an event.
var benign = []string{
	v1alpha1.ReasonProgressing, v1alpha1.ReasonProgressingWithRetry, v1alpha1.ReasonRollingOut, v1alpha1.ReasonWaiting,
	v1alpha1.ReasonClaimPending, v1alpha1.ReasonUnknown, v1alpha1.ReasonPending, v1alpha1.ReasonSuspended,
	v1alpha1.ReasonDIDUnresolved, v1alpha1.ReasonNotRequested, v1alpha1.ReasonNotConfigured,
	v1alpha1.ReasonCertificateNotReady,
}

// Transitions are the changes between two sets of conditions that are worth an event: of the named types, a failure that
// is new or has another reason, its end, a certificate that is to be renewed, and Ready becoming true. That things come up
// one by one is not news.
func Transitions(before, after []metav1.Condition, kinds []string) []Transition {
	var out []Transition
	for _, kind := range kinds {
		was, now := meta.FindStatusCondition(before, kind), meta.FindStatusCondition(after, kind)
		switch {
		case now == nil:
		case failure(now) && (!failure(was) || was.Reason != now.Reason),
			now.Status == metav1.ConditionTrue && failure(was),
			now.Reason == v1alpha1.ReasonExpiringSoon && (was == nil || was.Reason != now.Reason),
			now.Status == metav1.ConditionTrue && kind == v1alpha1.ConditionReady && (was == nil || was.Status != metav1.ConditionTrue):
			out = append(out, Transition{Type: kind, Status: now.Status, Reason: now.Reason, Message: now.Message})
		}
	}
	return out
}

func failure(c *metav1.Condition) bool {
	return c != nil && c.Status != metav1.ConditionTrue && !slices.Contains(benign, c.Reason)
}
