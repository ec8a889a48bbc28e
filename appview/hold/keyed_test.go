package hold

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLocksAreByKeyAndLeaveNothingBehind(t *testing.T) {
	k := newKeyed()
	a, ok := k.rlockWithin("a", 0)
	require.True(t, ok)
	again, ok := k.rlockWithin("a", 0)
	require.True(t, ok)
	b := k.lock("b")
	_, ok = k.tryLock("a")
	require.False(t, ok)
	a()
	_, ok = k.tryLock("a")
	require.False(t, ok)
	again()
	a, ok = k.tryLock("a")
	require.True(t, ok)

	waited := make(chan struct{})
	go func() {
		defer close(waited)
		k.lock("a")()
	}()
	a()
	<-waited
	_, ok = k.rlockWithin("b", 0)
	require.False(t, ok)
	b()
	require.Empty(t, k.locks)
}
