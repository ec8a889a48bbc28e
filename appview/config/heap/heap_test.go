package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASmallHeapGrowsFurtherAndALargeOneAsByDefault(t *testing.T) {
	for live, want := range map[uint64]int64{0: 400, 1 << 20: 400, 12 << 20: 400, 24 << 20: 200, 48 << 20: 100, 1 << 40: 100} {
		require.Equal(t, want, percent(live), "%d bytes", live)
	}
}

// current is the percentage in force.
func current() int {
	p := debug.SetGCPercent(100)
	debug.SetGCPercent(p)
	return p
}

func TestThePercentageFollowsTheHeap(t *testing.T) {
	before := current()
	t.Cleanup(func() { debug.SetGCPercent(before) })
	t.Setenv("GOGC", "")
	Tune()
	require.Equal(t, most, current())
	live := make([]byte, 200<<20)
	reaches := func(want int) {
		require.Eventually(t, func() bool { runtime.GC(); return current() == want }, 30*time.Second, time.Millisecond)
	}
	reaches(least)
	runtime.KeepAlive(live)
	reaches(most)
}

func TestGOGCWins(t *testing.T) {
	before := debug.SetGCPercent(77)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	t.Setenv("GOGC", "77")
	Tune()
	require.Equal(t, 77, current())
}
