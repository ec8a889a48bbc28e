package chaos

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// absent is the value of a tag that names nothing, and of a manifest that is not there.
const absent = digest.Digest("")

// register is what may be read of one tag, or of one manifest: its digest, or absent. One client at a time changes it,
// many read.
type register struct {
	mu       sync.Mutex
	possible map[digest.Digest]bool
	begun    []digest.Digest // every change that was ever begun
	told     bool            // the last change was acknowledged, so the hold is told of it
}

func newRegister() *register {
	return &register{possible: map[digest.Digest]bool{absent: true}, told: true}
}

// begin is called before a change is asked for: from now on it may be seen, also when nobody acknowledges it.
func (r *register) begin(v digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.possible[v] = true
	r.begun = append(r.begun, v)
	r.told = false
}

// acknowledged is called when a change was: nothing else may be seen by whoever asks later.
func (r *register) acknowledged(v digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.possible = map[digest.Digest]bool{v: true}
	r.told = true
}

// found is called when v was read while nothing else changed the register.
func (r *register) found(v digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.possible = map[digest.Digest]bool{v: true}
}

// lost is called when v is not possible any more, whatever else is.
func (r *register) lost(v digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.possible, v)
}

func (r *register) may(v digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.possible[v]
}

// must says whether v is all that may be read.
func (r *register) must(v digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.possible[v] && len(r.possible) == 1
}

func (r *register) values() []digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.possible))
}

// reading is a read under way.
type reading struct {
	r       *register
	allowed map[digest.Digest]bool
	since   int
}

func (r *register) read() reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return reading{r, maps.Clone(r.possible), len(r.begun)}
}

// allows says whether v may be what was read between the call of read and now.
func (o reading) allows(v digest.Digest) bool {
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	return o.allowed[v] || slices.Contains(o.r.begun[o.since:], v)
}

func TestTheModelKnowsWhatMayBeRead(t *testing.T) {
	const a, b = digest.Digest("a"), digest.Digest("b")
	r := newRegister()
	before := r.read()
	r.begin(a)
	during := r.read()
	require.True(t, before.allows(absent) && before.allows(a), "a push under way may be seen, or not")
	require.False(t, before.allows(b))
	r.acknowledged(a)
	after := r.read()
	require.True(t, during.allows(absent), "who asked before the acknowledgement may have been early")
	require.True(t, after.allows(a))
	require.False(t, after.allows(absent), "an acknowledged push is never lost")
	require.False(t, after.allows(b))

	r.begin(b)
	require.True(t, r.may(a) && r.may(b) && !r.must(a), "nobody knows what came of a push that was given up")
	r.begin(absent)
	r.acknowledged(absent)
	require.True(t, r.must(absent))
	require.False(t, r.read().allows(a), "an acknowledged delete is for good")
	require.True(t, after.allows(b), "it was begun while this read was under way")
}
