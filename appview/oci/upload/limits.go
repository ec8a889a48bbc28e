package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/semaphore"

	"atcr.io/operator/appview/store"
)

// What one account, and all of them together, may take of the server.
const (
	MaxOpen      = 64               // uploads of one account; a client pushes three to six layers at once
	abandoned    = 10 * time.Minute // without progress, after which an upload makes room for a new one of its account
	MaxBuffered  = 512 << 20        // bytes of parts in memory, over all uploads of this process
	budgetPause  = 15 * time.Second // how long a part waits for memory before its client is told to come back
	firstBuffer  = 64 << 10         // of a part; it doubles as bytes arrive, so that slow clients hold little
	growthFactor = 2
)

// ErrTooMany says that the account has as many uploads open, and moving, as it may.
var ErrTooMany = errors.New("too many uploads at once")

// ErrNoMemory says that the parts of other uploads take all the memory that there is for them.
var ErrNoMemory = errors.New("no memory left for another part")

// makeRoom lets an account open one more upload: one that its client has left gives way.
func (u *Uploader) makeRoom(ctx context.Context, did syntax.DID) error {
	n, oldest, err := u.Sessions.open(ctx, did)
	if err != nil || n < MaxOpen {
		return err
	}
	if oldest == nil {
		return fmt.Errorf("%w: %s has %d", ErrTooMany, did, n)
	}
	return u.Cancel(ctx, oldest)
}

// open counts the uploads of an account, and gives the one that stands still longest, if one is abandoned.
func (t *Sessions) open(ctx context.Context, did syntax.DID) (n int, oldest *Session, err error) {
	var id, repository string
	var moved int64
	err = t.Store.Read(ctx, func(q store.Querier) error {
		if err := q.QueryRowContext(ctx, `SELECT count(*) FROM uploads WHERE did = $1`, string(did)).Scan(&n); err != nil || n == 0 {
			return err
		}
		return q.QueryRowContext(ctx, `SELECT id, repository, updated_at FROM uploads WHERE did = $1 ORDER BY updated_at LIMIT 1`,
			string(did)).Scan(&id, &repository, &moved)
	})
	if err != nil {
		return 0, nil, fmt.Errorf("count uploads: %w", err)
	}
	if n < MaxOpen || t.Now().Sub(time.UnixMicro(moved)) < abandoned {
		return n, nil, nil
	}
	oldest, err = t.Get(ctx, did, repository, id)
	if errors.Is(err, ErrUnknown) { // it ended meanwhile
		return n - 1, nil, nil
	}
	return n, oldest, err
}

// budget is the memory that all parts of a process share.
type budget struct {
	*semaphore.Weighted
	pause time.Duration // of a part that waits for memory
}

func newBudget(size int64, pause time.Duration) *budget {
	return &budget{semaphore.NewWeighted(size), pause}
}

// partBuffer collects one part. It takes from the budget what it holds, and no more than has arrived twice over.
type partBuffer struct {
	budget *budget
	b      []byte
	held   int64
}

// fill reads until the buffer has limit bytes or the reader ends. When the budget is used up, a buffer that has at least
// atLeast bytes is a part as it is; a smaller one waits for memory.
func (p *partBuffer) fill(ctx context.Context, in io.Reader, limit, atLeast int64) error {
	p.b = p.b[:0]
	for int64(len(p.b)) < limit {
		if len(p.b) == cap(p.b) {
			switch err := p.grow(ctx, limit, atLeast); {
			case errors.Is(err, errFull):
				return nil
			case err != nil:
				return err
			}
		}
		n, err := in.Read(p.b[len(p.b):min(int64(cap(p.b)), limit)])
		p.b = p.b[:len(p.b)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errFull = errors.New("the part is as long as it can be now")

func (p *partBuffer) grow(ctx context.Context, limit, atLeast int64) error {
	size := min(max(int64(cap(p.b))*growthFactor, firstBuffer), limit)
	more := size - p.held
	if !p.budget.TryAcquire(more) {
		if int64(len(p.b)) >= max(atLeast, firstBuffer) {
			return errFull
		}
		waiting, cancel := context.WithTimeout(ctx, p.budget.pause)
		defer cancel()
		if err := p.budget.Acquire(waiting, more); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrNoMemory
		}
	}
	p.held = size
	grown := make([]byte, len(p.b), size)
	copy(grown, p.b)
	p.b = grown
	return nil
}

// release gives the memory back.
func (p *partBuffer) release() {
	p.budget.Release(p.held)
	p.b, p.held = nil, 0
}

func (p *partBuffer) reader() *bytes.Reader { return bytes.NewReader(p.b) }
