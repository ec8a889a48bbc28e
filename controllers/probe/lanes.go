package probe

const (
	// own is how many checks a namespace may have in flight whatever the others do.
	own = 8
	// shared is how many more all namespaces may have in flight together: up to this, one that is alone may have them all.
	// A check that hangs holds about 40 KiB until its timeout.
	shared = 128
)

// lanes share the checks in flight among namespaces: holds that hang are in the way of their own namespace only.
type lanes struct {
	of       map[string]*lane
	borrowed int // in flight beyond what each namespace has of its own
}

// lane is one namespace's.
type lane struct {
	inFlight int
	waiting  queue
}

func (l *lanes) room(n *lane) bool { return n.inFlight < own || l.borrowed < shared }

func (l *lanes) begin(n *lane) {
	n.inFlight++
	if n.inFlight > own {
		l.borrowed++
	}
}

// enter says whether e may be asked now. If not, it waits until [lanes.leave] returns it.
func (l *lanes) enter(e *entry) bool {
	n := l.of[e.key.Namespace]
	if n == nil {
		n = &lane{}
		l.of[e.key.Namespace] = n
	}
	if !l.room(n) {
		n.waiting.add(e)
		return false
	}
	l.begin(n)
	return true
}

// leave ends a check of namespace. Its place is for the namespace that has the fewest in flight of those that wait, and
// there for the entry that was due first; nil: none waits.
func (l *lanes) leave(namespace string) *entry {
	n := l.of[namespace]
	if n.inFlight > own {
		l.borrowed--
	}
	n.inFlight--
	var next *lane
	for _, c := range l.of {
		if len(c.waiting) > 0 && l.room(c) && (next == nil || c.before(next)) {
			next = c
		}
	}
	if n.inFlight == 0 && len(n.waiting) == 0 {
		delete(l.of, namespace)
	}
	if next == nil {
		return nil
	}
	l.begin(next)
	e := next.waiting[0]
	e.leaveQueue()
	return e
}

func (n *lane) before(other *lane) bool {
	if n.inFlight != other.inFlight {
		return n.inFlight < other.inFlight
	}
	return n.waiting[0].next.Before(other.waiting[0].next)
}
