package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAPartTakesNoMoreMemoryThanHasArrivedTwiceOver(t *testing.T) {
	b := newBudget(1<<20, time.Millisecond)
	slow, client := io.Pipe()
	p := &partBuffer{budget: b}
	filled := make(chan error, 1)
	go func() { filled <- p.fill(t.Context(), slow, 8<<20, 0) }()
	_, err := client.Write(make([]byte, 100_000))
	require.NoError(t, err)
	client.Close()
	require.NoError(t, <-filled)
	require.Len(t, p.b, 100_000)
	require.LessOrEqual(t, p.held, int64(200_000))
	p.release()
	require.True(t, b.TryAcquire(1<<20), "all of it is back")
}

func TestWithoutMemoryPartsAreShorterOrWait(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 1<<20)
	b := newBudget(300<<10, 20*time.Millisecond)
	p := &partBuffer{budget: b}
	in := bytes.NewReader(data)
	require.NoError(t, p.fill(t.Context(), in, 1<<20, 0), "a hold that takes parts of any size gets a shorter one")
	require.Len(t, p.b, 256<<10)
	require.NoError(t, p.fill(t.Context(), in, 1<<20, 0), "and the next, in the memory that it has")
	require.Len(t, p.b, 256<<10)

	other := &partBuffer{budget: b}
	require.ErrorIs(t, other.fill(t.Context(), bytes.NewReader(data), 1<<20, 5<<20), ErrNoMemory, "a part below the hold's smallest must wait, and not for ever")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, other.fill(ctx, bytes.NewReader(data), 1<<20, 5<<20), context.Canceled)
	p.release()
	require.NoError(t, other.fill(t.Context(), bytes.NewReader(data[:100]), 1<<20, 5<<20), "there is memory again")
	other.release()

	broken := errors.New("the client is gone")
	p = &partBuffer{budget: b}
	require.ErrorIs(t, p.fill(t.Context(), io.MultiReader(bytes.NewReader(data[:10]), failing{broken}), 1<<20, 0), broken)
	p.release()
	require.True(t, b.TryAcquire(300<<10), "all of it is back")
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
