package bench

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// load is what a closed loop of clients measured in one window.
type load struct {
	requests  int
	took      time.Duration
	cpu       usage
	latencies []time.Duration
}

// perRequest is the CPU time of a request in microseconds, of all of the peer's processes or of the registry alone.
func (l load) perRequest() float64 { return micros(l.cpu.sum()) / float64(l.requests) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// drive sends calls to a peer over connections for a window and checks every answer. next gives each client its calls,
// nil after the last; the error of the first that fails ends it.
func drive(ctx context.Context, p *peer, connections int, window time.Duration, next func(client, i int) *call) (load, error) {
	conns := make([]*conn, connections)
	for i := range conns {
		c, err := dial(p.host)
		if err != nil {
			return load{}, err
		}
		defer c.close()
		conns[i] = c
		if _, err := c.do(next(i, 0)); err != nil { // connected and warm before the clock starts
			return load{}, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	before, err := p.cpu()
	if err != nil {
		return load{}, err
	}
	var (
		all   load
		mu    sync.Mutex
		first error
		wg    sync.WaitGroup
	)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	began := time.Now()
	for i, c := range conns {
		wg.Go(func() {
			var mine []time.Duration
			for n := 1; ; n++ {
				sent := time.Now()
				if sent.Sub(began) >= window || ctx.Err() != nil {
					break
				}
				q := next(i, n)
				if q == nil {
					break
				}
				if _, err := c.do(q); err != nil {
					mu.Lock()
					if first == nil {
						first = fmt.Errorf("%s: %w", p.name, err)
					}
					mu.Unlock()
					stop()
					break
				}
				mine = append(mine, time.Since(sent))
			}
			mu.Lock()
			all.latencies = append(all.latencies, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	all.took = time.Since(began)
	after, err := p.cpu()
	if err != nil {
		return load{}, err
	}
	all.cpu, all.requests = after.since(before), len(all.latencies)
	if first == nil && all.requests == 0 {
		first = fmt.Errorf("%s: no request ended within %s", p.name, window)
	}
	return all, first
}

// taken counts what one peer did in one row.
type taken struct {
	cpu, rate, p50, p99 samples
}

// compare measures a row at several peers, one repetition after another, each time in the other direction: a noisy
// moment of the machine meets all of them.
func (r *run) compare(ctx context.Context, peers []*peer, next func(ctx context.Context, p *peer) (func(client, i int) *call, error)) (map[*peer]*taken, error) {
	out := map[*peer]*taken{}
	for _, p := range peers {
		out[p] = &taken{}
	}
	for n := range r.Repetitions {
		for i := range peers {
			p := peers[i]
			if n%2 == 1 {
				p = peers[len(peers)-1-i]
			}
			calls, err := next(ctx, p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			many, err := drive(ctx, p, r.Connections, r.Window, calls)
			if err != nil {
				return nil, err
			}
			one, err := drive(ctx, p, 1, r.Window/2, calls)
			if err != nil {
				return nil, err
			}
			t := out[p]
			t.cpu = append(t.cpu, many.perRequest())
			t.rate = append(t.rate, float64(many.requests)/many.took.Seconds())
			t.p50 = append(t.p50, millis(one.latencies, 0.5))
			t.p99 = append(t.p99, millis(one.latencies, 0.99))
		}
	}
	return out, nil
}
