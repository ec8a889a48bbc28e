// Package background runs what no request waits for: loops that must outlive a bug in one of their rounds, and work that
// several requests share. A panic in a goroutine that nobody recovers ends the whole process.
package background

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// Pauses between a panic and the next start.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
)

// Keep runs a job until ctx ends. One that panics is started again, after a pause that doubles; panicked is told each
// time, for a metric. One that returns is over.
func Keep(ctx context.Context, log *slog.Logger, name string, panicked func(), job func(context.Context)) {
	keep(ctx, log, name, panicked, job, firstPause)
}

func keep(ctx context.Context, log *slog.Logger, name string, panicked func(), job func(context.Context), pause time.Duration) {
	for !ended(ctx, log, name, panicked, job) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

func ended(ctx context.Context, log *slog.Logger, name string, panicked func(), job func(context.Context)) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(ctx, "a background job panicked and will be started again", "job", name, "panic", p, "stack", string(debug.Stack()))
			panicked()
			ok = false
		}
	}()
	job(ctx)
	return true
}

// Safely is f with a panic as an error, for a goroutine of an errgroup.
func Safely(ctx context.Context, log *slog.Logger, doing string, f func() error) func() error {
	return func() (err error) {
		defer Caught(ctx, log, doing, &err)
		return f()
	}
}

// Caught turns a panic into an error; defer it in what several callers wait for (singleflight ends the process instead).
func Caught(ctx context.Context, log *slog.Logger, doing string, err *error) {
	if p := recover(); p != nil {
		log.ErrorContext(ctx, "panic", "doing", doing, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("%s: panic", doing)
	}
}
