// Package outcome is what a reconcile step says about what happens next. A step that returns a plain error is tried
// again, less and less often.
package outcome

import (
	"errors"
	"fmt"
	"time"
)

// Stalled: nothing will get better before somebody changes something. The object is not queued again; a watch brings it
// back.
type Stalled struct {
	Reason    string
	Condition string // that is false because of it; empty: Accepted
	Err       error
}

func (s *Stalled) Error() string { return s.Err.Error() }

// Unwrap is the cause.
func (s *Stalled) Unwrap() error { return s.Err }

// Stall is a [Stalled] error with a message for the user.
func Stall(reason, format string, args ...any) error { return StallOf("", reason, format, args...) }

// StallOf is [Stall] about a condition of its own.
func StallOf(condition, reason, format string, args ...any) error {
	return &Stalled{Reason: reason, Condition: condition, Err: fmt.Errorf(format, args...)}
}

// Waiting: something else must happen first. The object is queued again after After; zero: a watch brings it back.
type Waiting struct {
	Reason string
	After  time.Duration
	Err    error
}

func (w *Waiting) Error() string { return w.Err.Error() }

// Unwrap is the cause.
func (w *Waiting) Unwrap() error { return w.Err }

// Wait is a [Waiting] error with a message for the user.
func Wait(reason string, after time.Duration, format string, args ...any) error {
	return &Waiting{Reason: reason, After: after, Err: fmt.Errorf(format, args...)}
}

// IsStalled finds a Stalled error.
func IsStalled(err error) (*Stalled, bool) {
	var s *Stalled
	return s, errors.As(err, &s)
}

// IsWaiting finds a Waiting error.
func IsWaiting(err error) (*Waiting, bool) {
	var w *Waiting
	return w, errors.As(err, &w)
}
