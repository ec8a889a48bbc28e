package pds

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// Import is a repository that was read from a CAR file. Its tree and records are checked; who signed it is not.
type Import struct {
	// Commit says whose repository it is. Check its signature (VerifySignature) before anything is done with it.
	Commit  *repo.Commit
	tree    *mst.Tree
	records []change
}

// ReadRepoCAR reads a whole repository as [Engine.WriteRepoCAR] and com.atproto.sync.getRepo write it (ErrInvalidRecord
// when a part is missing, damaged or breaks the data model). It is all kept in memory.
func ReadRepoCAR(ctx context.Context, r io.Reader) (*Import, error) {
	commit, content, err := repo.LoadRepoFromCAR(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("read the CAR file: %w: %w", ErrInvalidRecord, err)
	}
	in := &Import{Commit: commit}
	paths := map[string]cid.Cid{}
	// The tree is built anew from what is in it: only one that is whole and as it must be has the same root.
	if err := content.MST.WriteToMap(paths); err != nil {
		return nil, fmt.Errorf("read the MST: %w: %w", ErrInvalidRecord, err)
	}
	if in.tree, err = mst.LoadTreeFromMap(paths); err != nil {
		return nil, fmt.Errorf("read the MST: %w: %w", ErrInvalidRecord, err)
	}
	if root, err := in.tree.RootCID(); err != nil || *root != commit.Data {
		return nil, fmt.Errorf("%w: the MST is not that of its records", ErrInvalidRecord)
	}
	// RootCID left the nodes clean, and a commit stores those that are not.
	if in.tree, err = mst.LoadTreeFromMap(paths); err != nil {
		return nil, fmt.Errorf("read the MST: %w", err)
	}
	for path, c := range paths {
		record, err := importedRecord(ctx, content.RecordStore, path, c)
		if err != nil {
			return nil, err
		}
		in.records = append(in.records, record)
	}
	return in, nil
}

func importedRecord(ctx context.Context, from repo.RepoBlockSource, path string, c cid.Cid) (change, error) {
	collection, rkey, err := syntax.ParseRepoPath(path)
	if err != nil {
		return change{}, fmt.Errorf("%w: %.100q: %w", ErrInvalidRecord, path, err)
	}
	found, err := from.Get(ctx, c)
	if err != nil {
		return change{}, fmt.Errorf("%w: %s is not in the CAR file", ErrInvalidRecord, path)
	}
	block, err := cborBlock(found.RawData())
	if err != nil {
		return change{}, err
	}
	if block.Cid() != c {
		return change{}, fmt.Errorf("%w: %s is not named by the hash of its bytes", ErrInvalidRecord, path)
	}
	value, err := atdata.UnmarshalCBOR(block.RawData())
	if err != nil {
		return change{}, fmt.Errorf("%w: %s: %w", ErrInvalidRecord, path, err)
	}
	return change{prepared: prepared{
		Write: Write{Op: Create, Collection: collection, RKey: rkey, Value: value},
		path:  path, block: block, blobs: atdata.ExtractBlobs(value),
	}}, nil
}

// Records of the import, in no order.
func (in *Import) Records() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for _, r := range in.records {
			if !yield(Record{
				URI: recordURI(syntax.DID(in.Commit.DID), r.Collection, r.RKey), Collection: r.Collection, RKey: r.RKey, CID: r.block.Cid(), Value: r.Value,
			}) {
				return
			}
		}
	}
}

// ImportRepo makes the records of an import the whole content of a repository, in one commit of its own: one that is
// there loses what it had. Consumers of the firehose are told by a #sync event to read the repository again. An engine
// that had no event yet begins to count far above what the repository's former engine can have reached: a cursor from
// there is outdated, not of the future.
//
// Blobs are not in CAR files: records may name some that are missing, until they are uploaded.
func (e *Engine) ImportRepo(ctx context.Context, into NewRepo, in *Import) (Commit, error) {
	if string(into.DID) != in.Commit.DID {
		return Commit{}, fmt.Errorf("import into %s: %w: the repository is of %s", into.DID, ErrInvalidRequest, in.Commit.DID)
	}
	if into.Key == nil {
		return Commit{}, fmt.Errorf("import into %s: no signing key", into.DID)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	commit, err := e.importRepo(ctx, into, in)
	if err != nil {
		e.repos.Remove(into.DID)
		_ = e.loadSeq(context.WithoutCancel(ctx)) // the first error is the one to tell
		return Commit{}, fmt.Errorf("import into %s: %w", into.DID, err)
	}
	return commit, nil
}

func (e *Engine) importRepo(ctx context.Context, into NewRepo, in *Import) (Commit, error) {
	tree := in.tree.Copy()
	st := &repoState{did: into.DID, key: into.Key, tree: &tree, rev: syntax.TID(in.Commit.Rev)}
	has, err := e.HasRepo(ctx, into.DID)
	if err != nil {
		return Commit{}, err
	}
	if has {
		old, err := e.load(ctx, into.DID)
		if err != nil {
			return Commit{}, err
		}
		st.id, st.rev = old.id, max(old.rev, st.rev)
		e.repos.Remove(into.DID)
	}
	p, err := e.buildCommit(st, nil)
	if err != nil {
		return Commit{}, err
	}
	p.changes, p.put = in.records, withRecords(p.put, in.records)
	events := []draft{identityEvent(into.DID, into.Handle), accountEvent(into.DID), syncEvent(into.DID, p)}
	if e.seq == 0 {
		e.seq = time.Now().UnixMilli()
	}
	err = e.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if st.id, err = emptied(ctx, tx, st.id, into); err != nil {
			return err
		}
		if err := e.storeCommit(ctx, tx, st, p, events); err != nil {
			return err
		}
		_, err := e.storeBlobRefs(ctx, tx, st.id, p.changes)
		return err
	})
	if err != nil {
		return Commit{}, err
	}
	e.published(st, p, len(events))
	e.repos.Add(into.DID, st)
	return Commit{CID: st.head, Rev: st.rev, Changed: true}, nil
}

func withRecords(put []blocks.Block, records []change) []blocks.Block {
	all := newBlockSet()
	for _, b := range put {
		all.add(b)
	}
	for _, r := range records {
		all.add(r.block)
	}
	return all.order
}

// emptied is the row of a repository without content: a new one, or the one that is there.
func emptied(ctx context.Context, tx *sql.Tx, id int64, into NewRepo) (int64, error) {
	if id == 0 {
		res, err := tx.ExecContext(ctx, `INSERT INTO repo (did, signing_key, head, data, rev) VALUES (?, ?, x'', x'', '')`, into.DID, into.Key.Multibase())
		if err != nil {
			return 0, fmt.Errorf("insert the repository: %w", err)
		}
		return res.LastInsertId()
	}
	for _, query := range []string{`DELETE FROM record WHERE repo_id = ?`, `DELETE FROM block WHERE repo_id = ?`, `DELETE FROM blob_ref WHERE repo_id = ?`} {
		if _, err := tx.ExecContext(ctx, query, id); err != nil {
			return 0, fmt.Errorf("empty the repository: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE repo SET signing_key = ? WHERE id = ?`, into.Key.Multibase(), id); err != nil {
		return 0, fmt.Errorf("set the signing key: %w", err)
	}
	return id, nil
}

// MissingBlobs are those that records reference and that nobody uploaded, as after an import.
func (e *Engine) MissingBlobs(ctx context.Context, did syntax.DID) ([]cid.Cid, error) {
	id, err := e.repoID(ctx, did)
	if err != nil {
		return nil, err
	}
	raw, err := queryBytes(ctx, e.reader, `SELECT DISTINCT cid FROM blob_ref r WHERE repo_id = ?1 AND NOT EXISTS
		(SELECT 1 FROM blob b WHERE b.repo_id = ?1 AND b.cid = r.cid) ORDER BY cid`, id)
	if err != nil {
		return nil, fmt.Errorf("list missing blobs of %s: %w", did, err)
	}
	missing := make([]cid.Cid, 0, len(raw))
	for _, b := range raw {
		c, err := cid.Cast(b)
		if err != nil {
			return nil, fmt.Errorf("parse the CID of a blob: %w", err)
		}
		missing = append(missing, c)
	}
	return missing, nil
}
