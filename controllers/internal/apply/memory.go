package apply

import (
	"hash/maphash"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxMemory is how many objects are remembered; then it begins anew, so that those that are gone go too.
const maxMemory = 1 << 16

// memory has the version of each object that was found to say what an intent hash stands for: 16 bytes for an object,
// since hashes of both are enough.
type memory struct {
	seed maphash.Seed

	mu    sync.Mutex
	found map[uint64]uint64 // by UID
}

type found struct{ resourceVersion, intentHash string }

func newMemory() *memory { return &memory{seed: maphash.MakeSeed(), found: map[uint64]uint64{}} }

func (m *memory) hashes(o client.Object, intentHash string) (object, version uint64) {
	return maphash.Comparable(m.seed, o.GetUID()), maphash.Comparable(m.seed, found{o.GetResourceVersion(), intentHash})
}

// has says whether this version of o was found to say it.
func (m *memory) has(o client.Object, intentHash string) bool {
	object, version := m.hashes(o, intentHash)
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.found[object]
	return ok && known == version
}

func (m *memory) add(o client.Object, intentHash string) {
	object, version := m.hashes(o, intentHash)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.found[object]; !ok && len(m.found) >= maxMemory {
		clear(m.found)
	}
	m.found[object] = version
}
