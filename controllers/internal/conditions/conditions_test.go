package conditions_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/controllers/internal/conditions"
)

var now = metav1.NewTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))

func parts() []string { return []string{"First", "Second"} }

func summary(s *conditions.Set) map[string]string {
	out := map[string]string{}
	for _, c := range s.Conditions {
		out[c.Type] = string(c.Status) + "/" + c.Reason
	}
	return out
}

func TestReadySumsUpItsPartsByImportance(t *testing.T) {
	for name, c := range map[string]struct {
		set     func(*conditions.Set)
		stalled bool
		retry   string
		want    map[string]string
	}{
		"all is well": {
			set:  func(s *conditions.Set) { s.True("First", "A", "a"); s.True("Second", "B", "b") },
			want: map[string]string{"Ready": "True/Ready"},
		},
		"the first that fails is named": {
			set:  func(s *conditions.Set) { s.False("First", "A", "a"); s.False("Second", "B", "b") },
			want: map[string]string{"Ready": "False/A", "Reconciling": "True/Progressing"},
		},
		"what is not known is not ready": {
			set:  func(s *conditions.Set) { s.True("First", "A", "a") },
			want: map[string]string{"Ready": "False/Progressing", "Reconciling": "True/Progressing"},
		},
		"stalled": {
			set:     func(s *conditions.Set) { s.False("First", "Bad", "a"); s.True("Second", "B", "b") },
			stalled: true,
			want:    map[string]string{"Ready": "False/Bad", "Stalled": "True/Bad"},
		},
		"a failed request": {
			set:   func(s *conditions.Set) { s.True("First", "A", "a"); s.True("Second", "B", "b") },
			retry: "it failed",
			want:  map[string]string{"Ready": "False/ProgressingWithRetry", "Reconciling": "True/ProgressingWithRetry"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := conditions.New(nil, 3, now)
			c.set(s)
			s.Summarize(parts(), c.stalled, c.retry)
			got := summary(s)
			for _, kind := range []string{"Ready", "Reconciling", "Stalled"} {
				require.Equal(t, c.want[kind], got[kind], kind)
			}
			require.Equal(t, "Ready", s.Conditions[0].Type)
			require.Empty(t, conditions.Check(3, 3, s.Conditions))
		})
	}
}

func TestAPartOfAnOlderGenerationIsNotReady(t *testing.T) {
	s := conditions.New(nil, 1, now)
	s.True("First", "A", "a")
	s.True("Second", "B", "b")
	s = conditions.New(s.Conditions, 2, now)
	s.True("First", "A", "a")
	s.Summarize(parts(), false, "")
	require.Equal(t, "False/Progressing", summary(s)["Ready"])
}

// Else every look would be news, and nobody could tell since when it is so.
func TestAConditionThatEndsAsItWasHasNotChanged(t *testing.T) {
	later := metav1.NewTime(now.Add(time.Hour))
	since := func(s *conditions.Set, kind string) metav1.Time { return s.Get(kind).LastTransitionTime }
	s := conditions.New(nil, 1, now)
	s.False("First", "A", "a")
	s.Summarize(parts(), true, "")
	s = conditions.New(s.Conditions, 1, later)
	s.True("First", "B", "b")
	require.Equal(t, later, since(s, "First"))
	s.False("First", "A", "a")
	s.Drop("Stalled")
	s.Summarize(parts(), true, "")
	for _, kind := range []string{"First", "Ready", "Stalled"} {
		require.Equal(t, now, since(s, kind), kind)
	}
	s.True("First", "B", "b")
	require.Equal(t, later, since(s, "First"))
}

func TestTheCheckerFindsWhatBreaksTheRules(t *testing.T) {
	condition := func(kind string, status metav1.ConditionStatus, generation int64) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: "R", Message: "m", ObservedGeneration: generation}
	}
	for name, c := range map[string][]metav1.Condition{
		"no Ready":              {condition("Accepted", "True", 2)},
		"Ready while working":   {condition("Ready", "True", 2), condition("Reconciling", "True", 2)},
		"Ready while stalled":   {condition("Ready", "True", 2), condition("Stalled", "True", 2)},
		"not Ready, no reason":  {condition("Ready", "False", 2)},
		"working and stalled":   {condition("Ready", "False", 2), condition("Stalled", "True", 2), condition("Reconciling", "True", 2)},
		"a false Stalled":       {condition("Ready", "True", 2), condition("Stalled", "False", 2)},
		"Ready of the past":     {condition("Ready", "True", 1)},
		"a condition too new":   {condition("Ready", "True", 2), condition("Accepted", "True", 3)},
		"a condition of no one": {condition("Ready", "True", 2), condition("Accepted", "True", 0)},
		"no words":              {{Type: "Ready", Status: "True", ObservedGeneration: 2}},
	} {
		require.NotEmpty(t, conditions.Check(2, 2, c), name)
	}
	require.NotEmpty(t, conditions.Check(1, 2, []metav1.Condition{condition("Ready", "True", 2)}))
	require.Empty(t, conditions.Check(1, -1, nil), "nobody has looked at it yet")
}

func TestOnlyNewsIsAnEvent(t *testing.T) {
	of := func(status metav1.ConditionStatus, reason string) []metav1.Condition {
		return []metav1.Condition{{Type: "First", Status: status, Reason: reason}}
	}
	ready := []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready"}}
	require.Len(t, conditions.Transitions(nil, ready, []string{"Ready"}), 1)
	require.Empty(t, conditions.Transitions(ready, ready, []string{"Ready"}))
	for name, c := range map[string]struct {
		before, after []metav1.Condition
		events        int
	}{
		"something appears that is well":   {nil, of("True", "A"), 0},
		"something gets there":             {of("False", "Progressing"), of("True", "A"), 0},
		"something appears that is broken": {nil, of("False", "Broken"), 1},
		"something starts":                 {nil, of("False", "Progressing"), 0},
		"something recovers":               {of("False", "Broken"), of("True", "A"), 1},
		"something breaks":                 {of("True", "A"), of("False", "Broken"), 1},
		"something breaks another way":     {of("False", "Broken"), of("False", "Worse"), 1},
		"nothing changes":                  {of("False", "Broken"), of("False", "Broken"), 0},
		"it is well for another reason":    {of("True", "A"), of("True", "B"), 0},
		"it is not known any more":         {of("True", "A"), of("Unknown", "Unknown"), 0},
	} {
		require.Len(t, conditions.Transitions(c.before, c.after, []string{"First"}), c.events, name)
	}
}
