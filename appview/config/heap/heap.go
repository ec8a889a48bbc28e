// Package heap lets a small heap grow further between two garbage collections than Go's default, at which a server with
// 10 MiB of live objects collects after every 10 MiB: a dozen times a second under load, for an eighth of its CPU time.
//
// A heap that is as large as [Reserve] is collected as by default, so no server takes more than three quarters of it
// beyond. GOGC in the environment wins; GOMEMLIMIT bounds everything, as always.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// Reserve is how many bytes a heap of at most that size may grow by between two collections, as far as that is not more
// than [most] percent of its live objects.
const Reserve = 48 << 20

// Help describes the variables for --help.
const Help = `GOGC and GOMEMLIMIT do what Go's runtime documents. Without GOGC a heap below 48 MiB grows by up to 48 MiB between two
collections.`

const (
	least = 100 // percent: Go's default
	most  = 400
	step  = 10 // a change of less than a tenth is none: each stops the world for a moment
)

// Tune begins to set the percentage after each collection. Call it once, in main.
func Tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(most)
		t := &tuner{}
		t.now.Store(most)
		t.arm()
	}
}

type tuner struct{ now atomic.Int64 }

// arm runs adjust after the next collection: what nobody points to is found by it.
func (t *tuner) arm() {
	runtime.AddCleanup(new(sentinel), (*tuner).adjust, t)
}

type sentinel struct{ _ [32]byte } // larger than what the allocator puts together with others

func (t *tuner) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	want, now := percent(live[0].Value.Uint64()), t.now.Load()
	if max(want, now)-min(want, now) > now/step {
		debug.SetGCPercent(int(want))
		t.now.Store(want)
	}
	t.arm()
}

// percent is how much a heap with so many bytes of live objects may grow.
func percent(live uint64) int64 {
	return min(max(Reserve*100/int64(max(live, 1)), least), most)
}
