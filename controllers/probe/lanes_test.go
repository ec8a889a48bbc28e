package probe

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

// Whatever comes and goes: no namespace is kept from what is its own, none has more than there is, nobody waits while
// there is room, and the namespace with the fewest in flight is served first.
func TestNamespacesShareTheChecksInFlight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := lanes{of: map[string]*lane{}}
		inFlight, waiting := map[string]int{}, map[string][]*entry{} // as they were due
		namespaces := []string{"a", "b", "c", "d"}
		now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
		enter := func(t *rapid.T) {
			n := rapid.SampledFrom(namespaces).Draw(t, "namespace")
			for range rapid.IntRange(1, shared+own).Draw(t, "holds") {
				now = now.Add(time.Second)
				e := &entry{key: types.NamespacedName{Namespace: n}, next: now}
				if l.enter(e) {
					inFlight[n]++
				} else {
					waiting[n] = append(waiting[n], e)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"holds are due": enter,
			"some are answered": func(t *rapid.T) {
				n := rapid.SampledFrom(namespaces).Draw(t, "namespace")
				for range rapid.IntRange(0, inFlight[n]).Draw(t, "holds") {
					inFlight[n]--
					e := l.leave(n)
					if e == nil {
						continue
					}
					of := e.key.Namespace
					require.Same(t, waiting[of][0], e, "who was due first is asked first")
					waiting[of] = waiting[of][1:]
					for _, other := range namespaces {
						require.False(t, len(waiting[other]) > 0 && inFlight[other] < inFlight[of], "%s has fewer in flight than %s, and waits", other, of)
					}
					inFlight[of]++
				}
			},
			"one that waits is forgotten": func(t *rapid.T) {
				n := rapid.SampledFrom(namespaces).Draw(t, "namespace")
				if len(waiting[n]) > 0 {
					i := rapid.IntRange(0, len(waiting[n])-1).Draw(t, "which")
					waiting[n][i].leaveQueue()
					waiting[n] = slices.Delete(waiting[n], i, i+1)
				}
			},
			"": func(t *rapid.T) {
				borrowed := 0
				for _, n := range namespaces {
					borrowed += max(0, inFlight[n]-own)
					if len(waiting[n]) > 0 {
						require.GreaterOrEqual(t, inFlight[n], own)
					}
				}
				require.LessOrEqual(t, borrowed, shared)
				for _, n := range namespaces {
					require.True(t, len(waiting[n]) == 0 || borrowed == shared, "%s waits though there is room", n)
				}
			},
		})
		for _, n := range namespaces {
			for _, e := range waiting[n] {
				e.leaveQueue()
			}
		}
		for _, n := range namespaces {
			for range inFlight[n] {
				require.Nil(t, l.leave(n))
			}
		}
		require.Zero(t, l.borrowed)
		require.Empty(t, l.of)
	})
}
