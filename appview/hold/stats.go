package hold

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/ipfs/go-cid"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/pds"
)

const (
	// mostCounted is how many repositories of a user have statistics, and how many tags are remembered to tell a repeated
	// notification of a push.
	mostCounted = 10_000
	// pullEvery is how often a pull of the same repository by the same account counts.
	pullEvery = time.Hour
	// mostPending is how many repositories' pulls wait to be written.
	mostPending = 10_000
)

// repository is whose statistics are kept.
type repository struct {
	Owner syntax.DID
	Name  string
}

// pulls are the pulls that are not written yet. Each written one is a signed commit that all who follow the hold are
// told of, so they are summed up: a hold that is killed forgets those of the last interval.
type pulls struct {
	mu      sync.Mutex
	pending map[repository]pullsOf
	seen    *lru.Cache[puller, time.Time]
}

type pullsOf struct {
	count int64
	last  time.Time
}

type puller struct {
	repository
	did syntax.DID
}

func newPulls() *pulls {
	seen, _ := lru.New[puller, time.Time](50_000)
	return &pulls{pending: map[repository]pullsOf{}, seen: seen}
}

// again says whether a pull by the account was counted within pullEvery; from now on one was.
func (p *pulls) again(repo repository, by syntax.DID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := puller{repo, by}
	if last, ok := p.seen.Get(key); ok && now.Sub(last) < pullEvery {
		return true
	}
	p.seen.Add(key, now)
	return false
}

// add is false when too many repositories wait already.
func (p *pulls) add(repo repository, n pullsOf) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, ok := p.pending[repo]
	if !ok && len(p.pending) >= mostPending {
		return false
	}
	if was.last.After(n.last) {
		n.last = was.last
	}
	n.count += was.count
	p.pending[repo] = n
	return true
}

// take empties it.
func (p *pulls) take() map[repository]pullsOf {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.pending
	p.pending = map[repository]pullsOf{}
	return all
}

// countPulls counts pulls of a repository that has statistics. Anybody may notify pulls, so they make no new record.
func (s *Server) countPulls(ctx context.Context, repo repository, by syntax.DID, n int64) (bool, error) {
	_, err := s.engine.GetRecord(ctx, s.self.did, statsCollection, statsKey(repo.Owner, repo.Name))
	if errors.Is(err, pds.ErrRecordNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read statistics: %w", err)
	}
	now := s.now()
	if !s.trustsAppView(by) && s.pulls.again(repo, by, now) {
		return false, nil
	}
	return s.pulls.add(repo, pullsOf{n, now}), nil
}

// statsLoop writes pulls at their interval until the context ends, and then once more.
func (s *Server) statsLoop(ctx context.Context) {
	tick := time.NewTicker(s.cfg.StatsInterval)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		if err := s.writePulls(context.WithoutCancel(ctx)); err != nil {
			s.log.ErrorContext(ctx, "writing pull counts", "error", err)
		}
	}
}

// writePulls writes the pulls so far, in as few commits as they fit into. What cannot be written waits for the next time.
func (s *Server) writePulls(ctx context.Context) error {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	batch := map[repository]pullsOf{}
	var writes []pds.Write
	var errs []error
	commit := func() {
		if len(writes) == 0 {
			return
		}
		if _, _, err := s.engine.ApplyWrites(ctx, s.self.did, writes, cid.Undef); err != nil {
			errs = append(errs, fmt.Errorf("write statistics: %w", err))
			for repo, n := range batch {
				s.pulls.add(repo, n)
			}
		}
		clear(batch)
		writes = nil
	}
	for repo, n := range s.pulls.take() {
		value, found, err := s.changed(ctx, repo, func(st *stats) {
			st.PullCount += n.count
			st.LastPull = datetime(n.last)
		})
		if err != nil {
			errs = append(errs, err)
			s.pulls.add(repo, n)
			continue
		}
		if !found {
			continue // deleted meanwhile, with its owner's data
		}
		batch[repo] = n
		writes = append(writes, pds.Write{Op: pds.Put, Collection: statsCollection, RKey: statsKey(repo.Owner, repo.Name), Value: value})
		if len(writes) == pds.MaxWrites {
			commit()
		}
	}
	commit()
	return errors.Join(errs...)
}

// countPush counts a push unless it repeats the last one to its tag, or its owner has statistics of too many
// repositories.
func (s *Server) countPush(ctx context.Context, in notification, d digest.Digest) (bool, error) {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	last, err := s.ledger.LastPush(ctx, in.UserDID, in.Repository, in.Tag)
	if err != nil || last == d {
		return false, err
	}
	value, found, err := s.changed(ctx, repository{in.UserDID, in.Repository}, func(st *stats) {
		st.PushCount++
		st.LastPush = datetime(s.now())
	})
	if err != nil {
		return false, err
	}
	if !found {
		if ok, err := s.ledger.CountRepository(ctx, in.UserDID, in.Repository, mostCounted); err != nil || !ok {
			return false, err
		}
	}
	if _, err := s.put(ctx, statsCollection, statsKey(in.UserDID, in.Repository), value); err != nil {
		return false, fmt.Errorf("write statistics: %w", err)
	}
	return true, s.ledger.SetLastPush(ctx, in.UserDID, in.Repository, in.Tag, d, mostCounted)
}

// changed is the statistics record of a repository after a change, and whether there was one before. What another
// release wrote into it stays. The caller holds statsMu.
func (s *Server) changed(ctx context.Context, repo repository, change func(*stats)) (value map[string]any, found bool, err error) {
	st := stats{OwnerDID: repo.Owner, Repository: repo.Name}
	value = map[string]any{}
	rec, err := s.engine.GetRecord(ctx, s.self.did, statsCollection, statsKey(repo.Owner, repo.Name))
	switch {
	case errors.Is(err, pds.ErrRecordNotFound):
	case err != nil:
		return nil, false, fmt.Errorf("read statistics: %w", err)
	default:
		found = true
		if err := decode(rec.Value, &st); err != nil {
			return nil, found, err
		}
		maps.Copy(value, rec.Value)
	}
	change(&st)
	st.UpdatedAt = datetime(s.now())
	known, err := pds.RecordOf(st)
	if err != nil {
		return nil, found, fmt.Errorf("statistics record: %w", err)
	}
	maps.Copy(value, known)
	return value, found, nil
}
