package index

import (
	"container/list"
	"sync"
)

// byteCache keeps the bodies used last, bounded by their bytes.
type byteCache[K comparable] struct {
	mu    sync.Mutex
	limit int64
	used  int64
	order *list.List // of keys; front is newest
	items map[K]*cacheItem
}

type cacheItem struct {
	place *list.Element
	body  []byte
	used  bool // since [byteCache.takeUsed]
}

// perItem is what an entry costs besides its body.
const perItem = 400

func newByteCache[K comparable](limit int64) *byteCache[K] {
	return &byteCache[K]{limit: limit, order: list.New(), items: map[K]*cacheItem{}}
}

func (c *byteCache[K]) get(key K) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, ok := c.items[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(item.place)
	item.used = true
	return item.body, true
}

// takeUsed are the keys of those that were used since it was called before.
func (c *byteCache[K]) takeUsed() (used []K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, item := range c.items {
		if item.used {
			item.used = false
			used = append(used, key)
		}
	}
	return used
}

func (c *byteCache[K]) put(key K, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[key]; ok || int64(len(b)) > c.limit/4 {
		return
	}
	c.items[key] = &cacheItem{c.order.PushFront(key), b, true}
	c.used += int64(len(b)) + perItem
	for c.used > c.limit {
		oldest := c.order.Back()
		key := c.order.Remove(oldest).(K)
		c.used -= int64(len(c.items[key].body)) + perItem
		delete(c.items, key)
	}
}
