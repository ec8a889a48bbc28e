package probe

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"atcr.io/operator/api/v1alpha1"
)

const (
	// heartbeat is how often a state that does not change is passed on.
	heartbeat = 10 * time.Minute
	// undecided is how soon a hold is asked again that was never judged.
	undecided = 2 * time.Second
	// jitter spreads the checks: each interval is up to this part shorter, so that an outage is never seen later than
	// threshold times interval.
	jitter = 0.1
	// workers bounds the requests in flight.
	workers = 32
)

// Target is what to ask, and how often.
type Target struct {
	URL              string
	Client           *http.Client // decides which addresses may be reached
	Interval         time.Duration
	Timeout          time.Duration
	FailureThreshold int
	SuccessThreshold int
}

// Prober asks holds for their health.
type Prober struct {
	events  chan event.GenericEvent
	wake    chan struct{}
	metrics *metrics
	now     func() time.Time

	mu      sync.Mutex
	entries map[types.NamespacedName]*entry
	due     dueHeap
}

type entry struct {
	key       types.NamespacedName
	target    Target
	next      time.Time
	index     int // in the heap; -1: being asked, or forgotten
	state     State
	streak    int // successes in a row
	published State
}

// New returns a Prober that counts in registry.
func New(registry prometheus.Registerer) (*Prober, error) {
	m, err := newMetrics(registry)
	if err != nil {
		return nil, err
	}
	return &Prober{
		events: make(chan event.GenericEvent, 1024), wake: make(chan struct{}, 1), metrics: m, now: time.Now,
		entries: map[types.NamespacedName]*entry{},
	}, nil
}

// Events are HoldLinks whose published state changed.
func (p *Prober) Events() <-chan event.GenericEvent { return p.events }

// NeedLeaderElection keeps all but one operator from asking.
func (*Prober) NeedLeaderElection() bool { return true }

// Set makes t what is asked for the HoldLink key. known is its state as status has it, so that a restart of the
// operator forgets nothing. Setting the same target again changes nothing.
func (p *Prober) Set(key types.NamespacedName, t Target, known State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[key]
	if e != nil && e.target == t {
		return
	}
	if e != nil && e.index >= 0 {
		heap.Remove(&p.due, e.index)
	}
	if e == nil || e.target.URL != t.URL { // another hold: what was known of the first says nothing
		if e != nil || known.Health == "" {
			known = State{Health: v1alpha1.Unknown, Reason: v1alpha1.ReasonUnknown, Since: p.now()}
		}
		e = &entry{key: key, state: known, published: known}
	} else {
		e = &entry{key: key, state: e.state, streak: e.streak, published: e.published}
	}
	e.target, e.next = t, p.now()
	p.entries[key] = e
	heap.Push(&p.due, e)
	p.signal()
}

// Forget stops asking for the HoldLink key.
func (p *Prober) Forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[key]; e != nil {
		if e.index >= 0 {
			heap.Remove(&p.due, e.index)
		}
		delete(p.entries, key)
		p.metrics.forget(key)
	}
}

// Published is the state that status should show: it changes only together with an event.
func (p *Prober) Published(key types.NamespacedName) (State, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[key]; e != nil {
		return e.published, true
	}
	return State{}, false
}

// Start asks until ctx ends.
func (p *Prober) Start(ctx context.Context) error {
	jobs := make(chan *entry)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for e := range jobs {
				r := check(ctx, e.target.Client, e.target.URL, e.target.Timeout)
				if ctx.Err() == nil {
					p.finish(ctx, e, r)
				}
			}
		})
	}
	defer wg.Wait()
	defer close(jobs)
	for {
		e, wait := p.pop()
		if e != nil {
			select {
			case jobs <- e:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// pop takes the first entry that is due, or says how long to wait for one.
func (p *Prober) pop() (*entry, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.due) == 0 {
		return nil, time.Hour
	}
	if wait := p.due[0].next.Sub(p.now()); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&p.due).(*entry), 0
}

func (p *Prober) finish(ctx context.Context, e *entry, r Result) {
	if p.fold(e, r) {
		select {
		case p.events <- event.GenericEvent{Object: &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Namespace: e.key.Namespace, Name: e.key.Name}}}:
		case <-ctx.Done():
		}
	}
}

// fold notes the result, plans the next check, and says whether the published state changed.
func (p *Prober) fold(e *entry, r Result) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries[e.key] != e {
		return false // forgotten, or another target by now
	}
	now := p.now()
	var changed bool
	e.state, changed = record(e.state, &e.streak, r, e.target.FailureThreshold, e.target.SuccessThreshold, now)
	p.metrics.observe(e.key, e.state, r, changed)

	e.next = now.Add(spread(e.target.Interval))
	if e.state.Health == v1alpha1.Unknown {
		e.next = now.Add(min(e.target.Interval, undecided))
	}
	heap.Push(&p.due, e)
	p.signal()
	if !changed && now.Sub(e.published.LastProbe) < heartbeat {
		return false
	}
	e.published = e.state
	return true
}

func spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - jitter*rand.Float64()))
}

func (p *Prober) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// dueHeap orders entries by their due time.
type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
