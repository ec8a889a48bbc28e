package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/background"
)

// generation counts changes of the DID's rows: what was read at one generation is right as long as it stands. With the
// embedded store this process makes all changes and counts them itself. Where replicas share the database, the count
// is a column, read by its key each time: an acknowledged push or delete on one replica is seen by the next request to
// any other, without a notification that could come late.
func (m *Mirror) generation(ctx context.Context, did syntax.DID) (uint64, error) {
	q := m.queue(did)
	if !m.Store.Shared() {
		return q.generation.Load(), nil
	}
	return q.latest.get(ctx, func(ctx context.Context) (n uint64, err error) {
		defer background.Caught(ctx, m.Log, "reading a generation", &err)
		err = m.Store.ReadOne(ctx, func(q querier) error {
			return q.QueryRowContext(ctx, `SELECT generation FROM mirrors WHERE did = $1`, string(did)).Scan(&n)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read mirror: %w", err)
		}
		return n, nil
	})
}

// latest shares one look-up among callers that come while another is under way. Nobody is given the result of a look-up
// that began before it asked: under load there is one at a time for a DID, whatever the number of requests.
type latest struct {
	mu      sync.Mutex
	running *lookup // the one under way
	next    *lookup // begins when running has ended; callers may still join
}

type lookup struct {
	done  chan struct{}
	value uint64
	err   error
}

const lookupLimit = 10 * time.Second

func (l *latest) get(ctx context.Context, read func(context.Context) (uint64, error)) (uint64, error) {
	l.mu.Lock()
	mine, before := l.next, l.running
	first := mine == nil
	if first {
		mine = &lookup{done: make(chan struct{})}
		l.next = mine
	}
	l.mu.Unlock()
	if first && before == nil {
		l.run(ctx, mine, nil, read)
	} else if first {
		go l.run(ctx, mine, before, read)
	}
	select {
	case <-mine.done:
		return mine.value, mine.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run looks up for everybody who has joined, also when the first of them leaves.
func (l *latest) run(ctx context.Context, mine, before *lookup, read func(context.Context) (uint64, error)) {
	if before != nil {
		<-before.done
	}
	l.mu.Lock()
	l.running, l.next = mine, nil // whoever comes now waits for another one
	l.mu.Unlock()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupLimit)
	defer cancel()
	mine.value, mine.err = read(limited)
	l.mu.Lock()
	if l.running == mine {
		l.running = nil
	}
	l.mu.Unlock()
	close(mine.done)
}
