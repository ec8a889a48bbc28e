package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// schedule kills parts, one or two at a time, and starts them again. What is killed when is drawn from the seed, in
// requests of the pushers instead of seconds: a part dies in the middle of what they do, however fast the machine is.
// Between two outages only requests that were served count: retries of what still comes up would have the next part
// killed before anything was done, and no push would ever get through.
type schedule struct {
	w   *world
	rnd *rand.Rand
	bag []part
}

// Requests that are served between the end of one outage and the next kill, and that end while a part is down. At most.
const (
	requestsBetween = 60
	requestsDuring  = 25
)

// next draws a part; all are drawn once before one is drawn again.
func (s *schedule) next() part {
	if len(s.bag) == 0 {
		s.bag = s.w.parts()
		s.rnd.Shuffle(len(s.bag), func(i, j int) { s.bag[i], s.bag[j] = s.bag[j], s.bag[i] })
	}
	p := s.bag[0]
	s.bag = s.bag[1:]
	return p
}

// run kills until the context ends, and leaves with every part running.
func (s *schedule) run(ctx context.Context) error {
	for {
		if s.w.served.reach(ctx, s.w.served.value()+1+s.rnd.IntN(requestsBetween)) != nil {
			return nil
		}
		victims := []part{s.next()}
		if s.rnd.IntN(4) == 0 {
			if second := s.next(); second != victims[0] {
				victims = append(victims, second)
			}
		}
		for _, p := range victims {
			if err := p.kill(); err != nil {
				return err
			}
			s.w.count.add("killed "+p.String(), 1)
			s.w.kills.add()
		}
		_ = s.w.ended.reach(ctx, s.w.ended.value()+s.rnd.IntN(requestsDuring)) // or there is nothing more to disturb
		if err := startAll(context.WithoutCancel(ctx), victims); err != nil {
			return err
		}
	}
}

// startAll starts parts side by side, since one may wait for another.
func startAll(ctx context.Context, parts []part) error {
	errs := make([]error, len(parts))
	var started sync.WaitGroup
	for i, p := range parts {
		started.Go(func() {
			if err := p.start(ctx); err != nil {
				errs[i] = fmt.Errorf("start %s again: %w", p, err)
			}
		})
	}
	started.Wait()
	return errors.Join(errs...)
}
