package pds

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// change is a prepared write that alters the repository.
type change struct {
	prepared
	prev *cid.Cid // the record before; nil for a create
}

// pendingCommit is a signed commit on its way to the disk.
type pendingCommit struct {
	changes []change
	block   blocks.Block // the commit object
	data    cid.Cid
	rev     syntax.TID
	put     []blocks.Block // to store: the commit, new MST nodes, records
	slice   []blocks.Block // for the #commit event: those and the nodes that prove the changes; the commit first
	drop    []cid.Cid      // MST nodes and the commit that are no longer part of the repository
}

// ApplyWrites applies all writes in one commit, or none. swapCommit, when defined, must be the latest commit.
func (e *Engine) ApplyWrites(ctx context.Context, did syntax.DID, writes []Write, swapCommit cid.Cid) ([]WriteResult, Commit, error) {
	results, commit, err := e.applyWrites(ctx, did, writes, swapCommit)
	if err != nil {
		return nil, Commit{}, fmt.Errorf("write to the repository of %s: %w", did, err)
	}
	return results, commit, nil
}

func (e *Engine) applyWrites(ctx context.Context, did syntax.DID, writes []Write, swapCommit cid.Cid) ([]WriteResult, Commit, error) {
	prep, err := e.prepareAll(writes)
	if err != nil {
		return nil, Commit{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	st, err := e.load(ctx, did)
	if err != nil {
		return nil, Commit{}, err
	}
	if swapCommit.Defined() && swapCommit != st.head {
		return nil, Commit{}, fmt.Errorf("%w: commit was at %s", ErrInvalidSwap, st.head)
	}
	results, changes, err := plan(st, prep)
	if err != nil {
		return nil, Commit{}, err
	}
	if len(changes) == 0 {
		return results, Commit{CID: st.head, Rev: st.rev}, nil
	}
	if err := e.checkBlobs(ctx, st, changes); err != nil {
		return nil, Commit{}, err
	}
	if err := e.commit(ctx, st, changes); err != nil {
		// The tree in memory may have changed, and whether an interrupted COMMIT reached the disk only the disk knows.
		e.repos.Remove(did)
		return nil, Commit{}, err
	}
	return results, Commit{CID: st.head, Rev: st.rev, Changed: true}, nil
}

// prepareAll does what needs no state: syntax, encoding, hashing.
func (e *Engine) prepareAll(writes []Write) ([]prepared, error) {
	if len(writes) > MaxWrites {
		return nil, fmt.Errorf("%w: %d, at most %d are allowed", ErrTooManyWrites, len(writes), MaxWrites)
	}
	out := make([]prepared, 0, len(writes))
	seen := make(map[string]bool, len(writes))
	for _, w := range writes {
		p, err := e.prepare(w)
		if err != nil {
			return nil, err
		}
		if seen[p.path] {
			return nil, fmt.Errorf("%w: %s is written twice in one commit", ErrInvalidRecord, p.path)
		}
		seen[p.path] = true
		out = append(out, p)
	}
	return out, nil
}

// plan compares the writes with the current records. It changes nothing.
func plan(st *repoState, prep []prepared) ([]WriteResult, []change, error) {
	results := make([]WriteResult, 0, len(prep))
	var changes []change
	for _, p := range prep {
		prev, err := st.tree.Get([]byte(p.path))
		if err != nil {
			return nil, nil, fmt.Errorf("look up %s: %w", p.path, err)
		}
		r := WriteResult{URI: recordURI(st.did, p.Collection, p.RKey)}
		if p.block != nil {
			r.CID = p.block.Cid()
		}
		// A repeated put or delete is no conflict with itself, whatever it expects: so the reference PDS has it too.
		done := p.Op == Put && prev != nil && *prev == r.CID || p.Op == Delete && prev == nil && !p.MustExist
		if p.Swap != nil && !done && !sameCID(prev, p.Swap.CID) {
			return nil, nil, fmt.Errorf("%w: %s", ErrInvalidSwap, p.path)
		}
		switch {
		case p.Op == Create && prev != nil:
			return nil, nil, fmt.Errorf("create %s: %w", p.path, ErrRecordExists)
		case prev == nil && (p.Op == Update || p.Op == Delete && p.MustExist):
			return nil, nil, fmt.Errorf("%s: %w", p.path, ErrRecordNotFound)
		case p.Op == Delete:
			r.Changed = prev != nil
		default:
			r.Changed = prev == nil || *prev != r.CID
		}
		if r.Changed {
			changes = append(changes, change{prepared: p, prev: prev})
		}
		results = append(results, r)
	}
	return results, changes, nil
}

// sameCID compares what is there (nil: nothing) with what was expected (undefined: nothing).
func sameCID(have *cid.Cid, want cid.Cid) bool {
	if have == nil {
		return !want.Defined()
	}
	return *have == want
}

// commit makes the changes durable, then visible. On an error the cached state is no longer to be trusted.
func (e *Engine) commit(ctx context.Context, st *repoState, changes []change) error {
	p, err := e.buildCommit(st, changes)
	if err != nil {
		return err
	}
	size := 0
	for _, b := range p.slice {
		size += len(b.RawData())
	}
	if size > MaxEventBytes {
		return fmt.Errorf("%w: the event would have %d bytes, at most %d are allowed", ErrTooManyWrites, size, MaxEventBytes)
	}
	events := []draft{commitEvent(st, p)}
	var gone []cid.Cid
	err = e.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := e.storeCommit(ctx, tx, st, p, events); err != nil {
			return err
		}
		gone, err = e.storeBlobRefs(ctx, tx, st.id, changes)
		return err
	})
	if err != nil {
		return err
	}
	e.published(st, p, len(events))
	e.removeBlobFiles(st.id, gone)
	return nil
}

// buildCommit applies the changes to the tree in memory and signs the result.
func (e *Engine) buildCommit(st *repoState, changes []change) (*pendingCommit, error) {
	p := &pendingCommit{changes: changes}
	old := oldNodes{}
	for _, c := range changes {
		old.touch(st.tree, []byte(c.path))
		var err error
		if c.Op == Delete {
			_, err = st.tree.Remove([]byte(c.path))
		} else {
			_, err = st.tree.Insert([]byte(c.path), c.block.Cid())
		}
		if err != nil {
			return nil, fmt.Errorf("apply %s to the MST: %w", c.path, err)
		}
		st.tree = normalised(st.tree)
	}
	nodes := newBlockSet()
	root, err := st.tree.WriteDiffBlocks(context.Background(), nodes)
	if err != nil {
		return nil, fmt.Errorf("encode the MST: %w", err)
	}
	p.data = *root
	if p.block, err = e.sign(st, p); err != nil {
		return nil, err
	}

	put, slice := newBlockSet(), newBlockSet()
	put.add(p.block)
	slice.add(p.block)
	for _, b := range nodes.order {
		put.add(b)
		slice.add(b)
	}
	if err := addProofs(st.tree, changes, slice); err != nil {
		return nil, err
	}
	for _, c := range changes {
		if c.block != nil {
			put.add(c.block)
			slice.add(c.block)
		}
	}
	p.put, p.slice = put.order, slice.order

	p.drop = old.gone(st.tree)
	if st.head.Defined() {
		p.drop = append(p.drop, st.head)
	}
	return p, nil
}

// sign makes the commit object. Its revision is after the one before, whatever the clock says.
func (e *Engine) sign(st *repoState, p *pendingCommit) (blocks.Block, error) {
	p.rev = e.tids.Next()
	if p.rev <= st.rev {
		clock := syntax.ClockFromTID(st.rev)
		p.rev = clock.Next()
	}
	c := repo.Commit{DID: string(st.did), Version: repo.ATPROTO_REPO_VERSION, Data: p.data, Rev: string(p.rev)}
	if err := c.Sign(st.key); err != nil {
		return nil, fmt.Errorf("sign the commit: %w", err)
	}
	var raw bytes.Buffer
	if err := c.MarshalCBOR(&raw); err != nil {
		return nil, fmt.Errorf("encode the commit: %w", err)
	}
	return cborBlock(raw.Bytes())
}

// addProofs adds the nodes by which a consumer can undo the changes and arrive at the tree before ("inductive firehose").
func addProofs(tree *mst.Tree, changes []change, to *blockSet) error {
	var failed error
	visit := func(n *mst.Node) {
		if failed != nil || n.CID != nil && to.seen[*n.CID] {
			return
		}
		b, err := nodeBlock(n)
		if err != nil {
			failed = err
			return
		}
		to.add(b)
	}
	visit(tree.Root)
	for _, c := range changes {
		coverNodes(tree.Root, []byte(c.path), visit)
	}
	return failed
}

// inTx runs do in a write transaction that the caller's going away does not interrupt.
func (e *Engine) inTx(ctx context.Context, do func(context.Context, *sql.Tx) error) (err error) {
	ctx = context.WithoutCancel(ctx)
	tx, err := e.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := do(ctx, tx); err != nil {
		_ = tx.Rollback() // the error of do is the one to tell
		return err
	}
	if err := tx.Commit(); err != nil {
		// Whether it reached the disk is unknown: the next writer must not give the same sequence number again.
		_ = e.loadSeq(ctx)
		return fmt.Errorf("commit to the database: %w", err)
	}
	return nil
}

// storeCommit writes a commit, its blocks, records and events.
func (e *Engine) storeCommit(ctx context.Context, tx *sql.Tx, st *repoState, p *pendingCommit, events []draft) error {
	exec := func(query string, args ...any) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}
	for _, b := range p.put {
		err := exec(`INSERT INTO block (repo_id, cid, rev, content) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			st.id, b.Cid().Bytes(), p.rev, b.RawData())
		if err != nil {
			return fmt.Errorf("insert block %s: %w", b.Cid(), err)
		}
	}
	for _, c := range p.drop {
		if err := exec(`DELETE FROM block WHERE repo_id = ? AND cid = ?`, st.id, c.Bytes()); err != nil {
			return fmt.Errorf("delete block %s: %w", c, err)
		}
	}
	for _, c := range p.changes {
		if err := storeRecord(exec, st.id, c); err != nil {
			return fmt.Errorf("store record %s: %w", c.path, err)
		}
	}
	// After all records are in place: a record's block stays while another record has the same content.
	for _, c := range p.changes {
		if c.prev == nil {
			continue
		}
		err := exec(`DELETE FROM block WHERE repo_id = ?1 AND cid = ?2 AND NOT EXISTS (SELECT 1 FROM record WHERE repo_id = ?1 AND cid = ?2)`,
			st.id, c.prev.Bytes())
		if err != nil {
			return fmt.Errorf("delete the former record %s: %w", c.path, err)
		}
	}
	if err := exec(`UPDATE repo SET head = ?, data = ?, rev = ? WHERE id = ?`, p.block.Cid().Bytes(), p.data.Bytes(), p.rev, st.id); err != nil {
		return fmt.Errorf("move the head: %w", err)
	}
	return e.storeEvents(exec, st.did, events)
}

func storeRecord(exec func(string, ...any) error, repo int64, c change) error {
	if c.Op == Delete {
		return exec(`DELETE FROM record WHERE repo_id = ? AND collection = ? AND rkey = ?`, repo, c.Collection, c.RKey)
	}
	return exec(`INSERT INTO record (repo_id, collection, rkey, cid) VALUES (?, ?, ?, ?)
		ON CONFLICT (repo_id, collection, rkey) DO UPDATE SET cid = excluded.cid`, repo, c.Collection, c.RKey, c.block.Cid().Bytes())
}

// published moves the state in memory to a commit that is on the disk.
func (e *Engine) published(st *repoState, p *pendingCommit, events int) {
	st.head, st.data, st.rev = p.block.Cid(), p.data, p.rev
	e.seq += int64(events)
	e.news.ring()
}
