package index

import (
	"container/list"
	"sync"
)

// byteCache keeps the bodies used last, bounded by their bytes and those of their keys.
type byteCache[K comparable] struct {
	mu    sync.Mutex
	size  func(K) int // bytes of the strings of a key, which must be no parts of larger ones
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

// perItem is what an entry costs besides its body and the strings of its key.
const perItem = 400

func newByteCache[K comparable](limit int64, size func(K) int) *byteCache[K] {
	return &byteCache[K]{size: size, limit: limit, order: list.New(), items: map[K]*cacheItem{}}
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
	if _, ok := c.items[key]; ok || c.cost(key, b) > c.limit/4 {
		return
	}
	c.items[key] = &cacheItem{c.order.PushFront(key), b, true}
	c.used += c.cost(key, b)
	for c.used > c.limit {
		oldest := c.order.Back()
		key := c.order.Remove(oldest).(K)
		c.used -= c.cost(key, c.items[key].body)
		delete(c.items, key)
	}
}

func (c *byteCache[K]) cost(key K, body []byte) int64 { return int64(c.size(key)+len(body)) + perItem }
