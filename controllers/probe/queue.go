package probe

import "container/heap"

// queue is a heap of entries by the time when they are to be asked.
type queue []*entry

func (q *queue) add(e *entry) { heap.Push(q, e) }

// leaveQueue takes e out of the queue that it is in, if any.
func (e *entry) leaveQueue() {
	if e.queue != nil {
		heap.Remove(e.queue, e.index)
	}
}

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.queue, e.index = q, len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.queue = nil
	return e
}
