package hold

import (
	"sync"
	"time"
)

// keyed is a read-write lock for each key that is in use.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	sync.RWMutex
	users int
}

func newKeyed() *keyed { return &keyed{locks: map[string]*keyedLock{}} }

// lock waits until nobody else has the key.
func (k *keyed) lock(key string) (unlock func()) {
	l := k.use(key)
	l.Lock()
	return func() { l.Unlock(); k.release(key, l) }
}

// rlockWithin waits for a while until nobody has the key by lock. It asks now and then: that is rare.
func (k *keyed) rlockWithin(key string, most time.Duration) (unlock func(), ok bool) {
	l := k.use(key)
	for end := time.Now().Add(most); !l.TryRLock(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			k.release(key, l)
			return nil, false
		}
	}
	return func() { l.RUnlock(); k.release(key, l) }, true
}

// tryLock is lock when nobody has the key now.
func (k *keyed) tryLock(key string) (unlock func(), ok bool) {
	l := k.use(key)
	if !l.TryLock() {
		k.release(key, l)
		return nil, false
	}
	return func() { l.Unlock(); k.release(key, l) }, true
}

func (k *keyed) use(key string) *keyedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *keyed) release(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
