package pds

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car"
	carutil "github.com/ipld/go-car/util"
)

func writeCAR(w io.Writer, root cid.Cid, content ...blocks.Block) error {
	if err := car.WriteHeader(&car.CarHeader{Roots: []cid.Cid{root}, Version: 1}, w); err != nil {
		return fmt.Errorf("write the CAR header: %w", err)
	}
	for _, b := range content {
		if err := carutil.LdWrite(w, b.Cid().Bytes(), b.RawData()); err != nil {
			return fmt.Errorf("write a CAR block: %w", err)
		}
	}
	return nil
}

// WriteRepoCAR writes the current repository as a CAR file, the commit first; with since, only blocks newer than that
// revision. Nothing is written before the repository is known to exist, so a caller can still answer an error.
func (e *Engine) WriteRepoCAR(ctx context.Context, did syntax.DID, since string, w io.Writer) error {
	// One read transaction: the blocks of exactly one commit, whatever is written meanwhile.
	tx, err := e.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin reading: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing to undo
	var id int64
	var head []byte
	err = tx.QueryRowContext(ctx, `SELECT id, head FROM repo WHERE did = ?`, did).Scan(&id, &head)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", did, ErrRepoNotFound)
	}
	if err != nil {
		return fmt.Errorf("read the repository of %s: %w", did, err)
	}
	root, err := cid.Cast(head)
	if err != nil {
		return fmt.Errorf("parse the head of %s: %w", did, err)
	}
	commit, err := readBlock(ctx, tx, id, root)
	if err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	first, err := blocks.NewBlockWithCid(commit, root)
	if err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	rows, err := tx.QueryContext(ctx, `SELECT cid, content FROM block WHERE repo_id = ? AND rev > ? AND cid <> ? ORDER BY rowid`, id, since, head)
	if err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	defer rows.Close()
	if err := writeCAR(w, root, first); err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	for rows.Next() {
		var c, content sql.RawBytes
		if err := rows.Scan(&c, &content); err != nil {
			return fmt.Errorf("export %s: %w", did, err)
		}
		if err := carutil.LdWrite(w, c, content); err != nil {
			return fmt.Errorf("export %s: write a CAR block: %w", did, err)
		}
	}
	return rows.Err()
}

// WriteRecordProofCAR writes the commit and the MST path that prove that a record exists or does not, and the record.
func (e *Engine) WriteRecordProofCAR(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey, w io.Writer) error {
	var out bytes.Buffer
	if err := e.recordProof(ctx, did, []byte(string(collection)+"/"+string(rkey)), &out); err != nil {
		return fmt.Errorf("prove %s: %w", recordURI(did, collection, rkey), err)
	}
	_, err := w.Write(out.Bytes())
	return err
}

func (e *Engine) recordProof(ctx context.Context, did syntax.DID, path []byte, w io.Writer) error {
	e.mu.Lock() // the tree in memory and the blocks on the disk must be of one commit
	defer e.mu.Unlock()
	st, err := e.load(ctx, did)
	if err != nil {
		return err
	}
	proof := newBlockSet()
	add := func(c cid.Cid) error {
		raw, err := readBlock(ctx, e.reader, st.id, c)
		if err != nil {
			return err
		}
		b, err := blocks.NewBlockWithCid(raw, c)
		if err != nil {
			return err
		}
		proof.add(b)
		return nil
	}
	if err := add(st.head); err != nil {
		return err
	}
	var failed error
	coverNodes(st.tree.Root, path, func(n *mst.Node) {
		b, err := nodeBlock(n)
		if err != nil {
			failed = err
			return
		}
		proof.add(b)
	})
	if failed != nil {
		return failed
	}
	record, err := st.tree.Get(path)
	if err != nil {
		return fmt.Errorf("look up the record: %w", err)
	}
	if record != nil {
		if err := add(*record); err != nil {
			return err
		}
	}
	return writeCAR(w, st.head, proof.order...)
}
