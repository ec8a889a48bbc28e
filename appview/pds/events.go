package pds

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	lexutil "github.com/bluesky-social/indigo/lex/util"
	"github.com/ipfs/go-cid"
	cbor "github.com/ipfs/go-ipld-cbor"
)

// readAhead is how many events a subscription takes from the database at a time; one has at most MaxEventBytes and a bit.
const readAhead = 16

// draft is an event that has no sequence number yet; make returns its body.
type draft struct {
	kind EventKind
	make func(seq int64, now string) (cborMarshaler, error)
}

type cborMarshaler interface{ MarshalCBOR(io.Writer) error }

func identityEvent(did syntax.DID, handle string) draft {
	return draft{EventIdentity, func(seq int64, now string) (cborMarshaler, error) {
		body := &comatproto.SyncSubscribeRepos_Identity{Did: string(did), Seq: seq, Time: now}
		if handle != "" {
			body.Handle = &handle
		}
		return body, nil
	}}
}

func accountEvent(did syntax.DID) draft {
	return draft{EventAccount, func(seq int64, now string) (cborMarshaler, error) {
		return &comatproto.SyncSubscribeRepos_Account{Did: string(did), Active: true, Seq: seq, Time: now}, nil
	}}
}

func syncEvent(did syntax.DID, p *pendingCommit) draft {
	return draft{EventSync, func(seq int64, now string) (cborMarshaler, error) {
		var car bytes.Buffer
		if err := writeCAR(&car, p.block.Cid(), p.block); err != nil {
			return nil, err
		}
		return &comatproto.SyncSubscribeRepos_Sync{Did: string(did), Rev: string(p.rev), Blocks: car.Bytes(), Seq: seq, Time: now}, nil
	}}
}

// commitEvent describes the step from st to p.
func commitEvent(st *repoState, p *pendingCommit) draft {
	body := &comatproto.SyncSubscribeRepos_Commit{
		Repo:   string(st.did),
		Rev:    string(p.rev),
		Commit: lexutil.LexLink(p.block.Cid()),
		Blobs:  []lexutil.LexLink{},
		Ops:    make([]*comatproto.SyncSubscribeRepos_RepoOp, 0, len(p.changes)),
	}
	if st.head.Defined() {
		since := string(st.rev)
		body.Since, body.PrevData = &since, link(st.data)
	}
	for _, c := range p.changes {
		op := &comatproto.SyncSubscribeRepos_RepoOp{Path: c.path, Action: "create"}
		if c.prev != nil {
			op.Action, op.Prev = "update", link(*c.prev)
		}
		if c.Op == Delete {
			op.Action = "delete"
		} else {
			op.Cid = link(c.block.Cid())
		}
		body.Ops = append(body.Ops, op)
	}
	return draft{EventCommit, func(seq int64, now string) (cborMarshaler, error) {
		var car bytes.Buffer
		if err := writeCAR(&car, p.block.Cid(), p.slice...); err != nil {
			return nil, err
		}
		body.Blocks, body.Seq, body.Time = car.Bytes(), seq, now
		return body, nil
	}}
}

func link(c cid.Cid) *lexutil.LexLink {
	l := lexutil.LexLink(c)
	return &l
}

// frame is one binary message of an event stream: a DAG-CBOR header and a DAG-CBOR body.
func frame(kind EventKind, body cborMarshaler) ([]byte, error) {
	header, err := cbor.DumpObject(map[string]any{"op": 1, "t": string(kind)})
	if err != nil {
		return nil, fmt.Errorf("encode the header of a %s event: %w", kind, err)
	}
	out := bytes.NewBuffer(header)
	if err := body.MarshalCBOR(out); err != nil {
		return nil, fmt.Errorf("encode a %s event: %w", kind, err)
	}
	return out.Bytes(), nil
}

// storeEvents gives the drafts the next sequence numbers. Call in the commit's transaction, with mu held.
func (e *Engine) storeEvents(exec func(string, ...any) error, did syntax.DID, events []draft) error {
	now := time.Now().UTC()
	for i, d := range events {
		seq := e.seq + 1 + int64(i)
		body, err := d.make(seq, now.Format(syntax.AtprotoDatetimeLayout))
		if err != nil {
			return fmt.Errorf("make a %s event: %w", d.kind, err)
		}
		raw, err := frame(d.kind, body)
		if err != nil {
			return err
		}
		err = exec(`INSERT INTO event (seq, did, kind, at, frame) VALUES (?, ?, ?, ?, ?)`, seq, did, string(d.kind), now.UnixMilli(), raw)
		if err != nil {
			return fmt.Errorf("insert a %s event: %w", d.kind, err)
		}
	}
	return nil
}

// Subscription delivers events in order. It reads them from the database, so a slow reader costs nobody any memory.
type Subscription struct {
	e        *Engine
	last     int64
	outdated bool
	ahead    []Event
}

// Subscribe to the events after the sequence number cursor; a negative cursor means only new ones (ErrFutureCursor).
func (e *Engine) Subscribe(ctx context.Context, cursor int64) (*Subscription, error) {
	var latest, oldest int64
	err := e.reader.QueryRowContext(ctx, `SELECT coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'), 0), coalesce((SELECT min(seq) FROM event), 0)`).
		Scan(&latest, &oldest)
	if err != nil {
		return nil, fmt.Errorf("read the latest sequence number: %w", err)
	}
	if oldest == 0 {
		oldest = latest + 1 // all events were dropped
	}
	switch {
	case cursor < 0:
		return &Subscription{e: e, last: latest}, nil
	case cursor > latest:
		return nil, fmt.Errorf("subscribe after %d, the latest is %d: %w", cursor, latest, ErrFutureCursor)
	default:
		return &Subscription{e: e, last: max(cursor, oldest-1), outdated: cursor < oldest-1}, nil
	}
}

// Outdated reports that events after the cursor have been dropped already: the subscription starts at the oldest.
func (s *Subscription) Outdated() bool { return s.outdated }

// Next waits for the next event. It ends with the context's error, with io.EOF when the engine closes, and with
// [ErrConsumerTooSlow] when events were dropped before they were delivered: there is never a gap.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for len(s.ahead) == 0 {
		news := s.e.news.wait()
		if err := s.read(ctx); err != nil {
			return Event{}, err
		}
		if len(s.ahead) > 0 {
			break
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-s.e.closed:
			return Event{}, io.EOF
		}
	}
	ev := s.ahead[0]
	s.ahead = s.ahead[1:]
	s.last = ev.Seq
	return ev, nil
}

func (s *Subscription) read(ctx context.Context) error {
	rows, err := s.e.reader.QueryContext(ctx, `SELECT seq, did, kind, at, frame FROM event WHERE seq > ? ORDER BY seq LIMIT ?`, s.last, readAhead)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var ev Event
		var at int64
		if err := rows.Scan(&ev.Seq, &ev.DID, &ev.Kind, &at, &ev.Frame); err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		ev.Time = time.UnixMilli(at).UTC()
		s.ahead = append(s.ahead, ev)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	if len(s.ahead) == 0 || s.ahead[0].Seq == s.last+1 {
		return nil
	}
	// Numbers are also left out where an import skips some; then what came before is still there.
	var oldest int64
	if err := s.e.reader.QueryRowContext(ctx, `SELECT min(seq) FROM event`).Scan(&oldest); err != nil {
		return fmt.Errorf("read the oldest sequence number: %w", err)
	}
	if oldest > s.last+1 {
		return fmt.Errorf("events %d to %d: %w", s.last+1, oldest-1, ErrConsumerTooSlow)
	}
	return nil
}

// AnnounceIdentity emits an #identity event: consumers refresh the DID document.
func (e *Engine) AnnounceIdentity(ctx context.Context, did syntax.DID, handle string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.repoID(ctx, did); err != nil {
		return fmt.Errorf("announce the identity: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	exec := func(query string, args ...any) error {
		_, err := e.writer.ExecContext(ctx, query, args...)
		return err
	}
	if err := e.storeEvents(exec, did, []draft{identityEvent(did, handle)}); err != nil {
		return fmt.Errorf("announce the identity of %s: %w", did, err)
	}
	e.seq++
	e.news.ring()
	return nil
}
