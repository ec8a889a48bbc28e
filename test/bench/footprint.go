package bench

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// idle is the memory of each server that has done nothing yet.
func (r *run) idle(context.Context) error {
	t := r.table("Memory, idle", "resident set of each process just after its start", "peer", "process", "MiB")
	for _, p := range append(r.peers[:len(r.peers):len(r.peers)], r.s3Peers()...) {
		for _, s := range p.servers {
			now, _, err := s.memory()
			if err != nil {
				return err
			}
			t.add(p.name, s.name, number(mib(now)))
			r.note("idle MiB", p.name+"/"+s.name, mib(now))
		}
	}
	return nil
}

func (r *run) s3Peers() []*peer {
	if r.s3 == nil {
		return nil
	}
	return []*peer{r.s3.peer}
}

// starts measures the time from exec to the first good answer, of programs that have their data already.
func (r *run) starts(ctx context.Context) error {
	t := r.table("Start", "from exec to ready, on data that is there", "peer", "ms")
	var took samples
	for range r.Starts {
		if err := r.restart(ctx, r.fs); err != nil {
			return err
		}
		took = append(took, float64(r.fs.servers[0].start)/float64(time.Millisecond))
	}
	t.add("atcr (AppView)", took.String())
	r.note("start ms", "atcr", took.median())
	for _, p := range r.peers[1:] {
		t.add(p.name+" (once)", number(float64(p.servers[0].start)/float64(time.Millisecond)))
		r.note("start ms", p.name, float64(p.servers[0].start)/float64(time.Millisecond))
	}
	return nil
}

// connections is the memory under keep-alive connections that have asked once and wait.
func (r *run) connections(ctx context.Context) error {
	t := r.table("Memory, under load", fmt.Sprintf("after everything above, its highest, and with %d idle keep-alive connections", r.Idle),
		"peer", "process", "MiB", "highest MiB", "MiB with idle connections")
	for _, p := range r.peers {
		before := map[string][2]int64{}
		for _, s := range p.servers {
			now, peak, err := s.memory()
			if err != nil {
				return err
			}
			before[s.name] = [2]int64{now, peak}
		}
		waiting, err := r.waiting(ctx, p)
		if err != nil {
			return err
		}
		for i, s := range p.servers {
			with := "-"
			if i == 0 {
				now, _, err := s.memory()
				if err != nil {
					return err
				}
				with = number(mib(now))
				r.note("MiB with idle connections", p.name, mib(now))
			}
			t.add(p.name, s.name, number(mib(before[s.name][0])), number(mib(before[s.name][1])), with)
		}
		for _, c := range waiting {
			c.close()
		}
	}
	return nil
}

// waiting opens idle connections.
func (r *run) waiting(ctx context.Context, p *peer) ([]*conn, error) {
	as := anonymous
	if p.private {
		as = loggedIn
	}
	auth, err := p.authorization(ctx, as, repository, "pull")
	if err != nil {
		return nil, err
	}
	ask := &call{method: http.MethodGet, target: "/v2/", header: auth, want: want{status: http.StatusOK}}
	var open []*conn
	for range r.Idle {
		c, err := dialSmall(p.host)
		if err == nil {
			_, err = c.do(ask)
		}
		if err != nil {
			return open, fmt.Errorf("%s: connection %d: %w", p.name, len(open)+1, err)
		}
		open = append(open, c)
	}
	return open, nil
}
