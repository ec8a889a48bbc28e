package pds

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
//
// The file is complete on the disk before its first byte goes out: whoever takes the bytes slowly, or not at all, holds
// no connection to the database. At most maxExports run at a time, which bounds that space; more wait.
func (e *Engine) WriteRepoCAR(ctx context.Context, did syntax.DID, since string, w io.Writer) error {
	select {
	case e.exports <- struct{}{}:
		defer func() { <-e.exports }()
	case <-ctx.Done():
		return fmt.Errorf("export %s: %w", did, ctx.Err())
	}
	spool, err := os.CreateTemp(filepath.Join(e.cfg.Dir, tempFolder), "export-*")
	if err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	defer spool.Close()
	// Only the open file is needed: so nothing is left of it, however this ends.
	if err := os.Remove(spool.Name()); err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	if err := e.export(ctx, did, since, spool); err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	if _, err := io.Copy(w, spool); err != nil {
		return fmt.Errorf("export %s: %w", did, err)
	}
	return nil
}

// export writes the CAR file in one read transaction: the blocks of exactly one commit, whatever is written meanwhile.
func (e *Engine) export(ctx context.Context, did syntax.DID, since string, to io.Writer) error {
	tx, err := e.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin reading: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing to undo
	var id int64
	var head []byte
	err = tx.QueryRowContext(ctx, `SELECT id, head FROM repo WHERE did = ?`, did).Scan(&id, &head)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrRepoNotFound
	}
	if err != nil {
		return fmt.Errorf("read the repository: %w", err)
	}
	root, err := cid.Cast(head)
	if err != nil {
		return fmt.Errorf("parse the head: %w", err)
	}
	commit, err := readBlock(ctx, tx, id, root)
	if err != nil {
		return err
	}
	first, err := blocks.NewBlockWithCid(commit, root)
	if err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT cid, content FROM block WHERE repo_id = ? AND rev > ? AND cid <> ? ORDER BY rowid`, id, since, head)
	if err != nil {
		return err
	}
	defer rows.Close()
	w := bufio.NewWriter(to)
	if err := writeCAR(w, root, first); err != nil {
		return err
	}
	for rows.Next() {
		var c, content sql.RawBytes
		if err := rows.Scan(&c, &content); err != nil {
			return err
		}
		if err := carutil.LdWrite(w, c, content); err != nil {
			return fmt.Errorf("write a CAR block: %w", err)
		}
	}
	return errors.Join(rows.Err(), w.Flush())
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
