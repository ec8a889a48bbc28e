package background

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

var discard = slog.New(slog.DiscardHandler)

func TestAJobThatPanicsIsStartedAgain(t *testing.T) {
	var starts, panics int
	keep(t.Context(), discard, "job", func() { panics++ }, func(context.Context) {
		if starts++; starts < 4 {
			panic(errors.New("index out of range"))
		}
	}, time.Millisecond)
	require.Equal(t, 4, starts)
	require.Equal(t, 3, panics)
}

func TestAJobThatPanicsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	keep(ctx, discard, "job", func() {}, func(context.Context) { cancel(); panic("x") }, time.Hour)
	require.Error(t, ctx.Err())
}

func TestAPanicThatCallersShareIsAnErrorForEachOfThem(t *testing.T) {
	var flight singleflight.Group
	r := <-flight.DoChan("x", func() (v any, err error) {
		defer Caught(t.Context(), discard, "resolving", &err)
		panic("x")
	})
	require.EqualError(t, r.Err, "resolving: panic")
}

func TestAPanicInAGroupIsTheErrorOfTheGroup(t *testing.T) {
	var group errgroup.Group
	group.Go(Safely(t.Context(), discard, "asking", func() error { panic("x") }))
	require.EqualError(t, group.Wait(), "asking: panic")
	require.NoError(t, Safely(t.Context(), discard, "asking", func() error { return nil })())
}
