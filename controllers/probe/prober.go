package probe

import (
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
	// threshold times interval plus the timeout of the last check.
	jitter = 0.1
)

// Target is what to ask, and how often. A Timeout longer than the Interval would make checks rarer than that.
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
	plan    queue // of those that are neither asked nor waiting for their turn
	lanes   lanes
}

type entry struct {
	key       types.NamespacedName
	target    Target
	next      time.Time // when to ask
	queue     *queue    // that it is in; nil: being asked, or forgotten
	index     int       // there
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
		entries: map[types.NamespacedName]*entry{}, lanes: lanes{of: map[string]*lane{}},
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
	if e != nil {
		e.leaveQueue()
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
	p.plan.add(e)
	p.signal()
}

// Forget stops asking for the HoldLink key.
func (p *Prober) Forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[key]; e != nil {
		e.leaveQueue()
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
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		e, wait := p.turn()
		if e != nil {
			wg.Go(func() { p.ask(ctx, e) })
			continue
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

// turn takes the first entry that is due and need not wait for others, or says how long to wait for one.
func (p *Prober) turn() (*entry, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.plan) > 0 {
		e := p.plan[0]
		if wait := e.next.Sub(p.now()); wait > 0 {
			return nil, wait
		}
		e.leaveQueue()
		if p.lanes.enter(e) {
			return e, 0
		}
	}
	return nil, time.Hour
}

// ask checks e, and then whoever waited for its place.
func (p *Prober) ask(ctx context.Context, e *entry) {
	for e != nil {
		begin := p.now()
		r := check(ctx, e.target.Client, e.target.URL, e.target.Timeout)
		if ctx.Err() != nil {
			return
		}
		if p.fold(e, r, begin) {
			select {
			case p.events <- event.GenericEvent{Object: &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Namespace: e.key.Namespace, Name: e.key.Name}}}:
			case <-ctx.Done():
				return
			}
		}
		e = p.after(e)
	}
}

// after gives the place of e, which was asked, to another.
func (p *Prober) after(e *entry) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lanes.leave(e.key.Namespace)
}

// fold notes the result of the check that began at begin, plans the next one, and says whether the published state changed.
func (p *Prober) fold(e *entry, r Result, begin time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries[e.key] != e {
		return false // forgotten, or another target by now
	}
	now := p.now()
	var changed bool
	e.state, changed = record(e.state, &e.streak, r, e.target.FailureThreshold, e.target.SuccessThreshold, now)
	p.metrics.observe(e.key, e.state, r, changed)

	e.next = begin.Add(spread(e.target.Interval))
	if e.state.Health == v1alpha1.Unknown {
		e.next = begin.Add(min(e.target.Interval, undecided))
	}
	p.plan.add(e)
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
