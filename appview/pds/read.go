package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

const defaultListLimit, maxListLimit = 50, 100

// GetRecord (ErrRecordNotFound, ErrRepoNotFound).
func (e *Engine) GetRecord(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (Record, error) {
	id, err := e.repoID(ctx, did)
	if err != nil {
		return Record{}, err
	}
	r := Record{URI: recordURI(did, collection, rkey), Collection: collection, RKey: rkey}
	var c, raw []byte
	err = e.reader.QueryRowContext(ctx, `SELECT r.cid, b.content FROM record r JOIN block b ON b.repo_id = r.repo_id AND b.cid = r.cid
		WHERE r.repo_id = ? AND r.collection = ? AND r.rkey = ?`, id, collection, rkey).Scan(&c, &raw)
	if errors.Is(err, sql.ErrNoRows) {
		return Record{}, fmt.Errorf("%s: %w", r.URI, ErrRecordNotFound)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read %s: %w", r.URI, err)
	}
	return r, r.decode(c, raw)
}

func (r *Record) decode(c, raw []byte) error {
	var err error
	if r.CID, err = cid.Cast(c); err != nil {
		return fmt.Errorf("parse the CID of %s: %w", r.URI, err)
	}
	if r.Value, err = atdata.UnmarshalCBOR(raw); err != nil {
		return fmt.Errorf("decode %s: %w", r.URI, err)
	}
	return nil
}

// ListRecords returns one page and the cursor of the next one, empty at the end.
func (e *Engine) ListRecords(ctx context.Context, did syntax.DID, collection syntax.NSID, opts ListOptions) ([]Record, string, error) {
	if opts.Limit == 0 {
		opts.Limit = defaultListLimit
	}
	if opts.Limit < 1 || opts.Limit > maxListLimit {
		return nil, "", fmt.Errorf("%w: limit must be 1 to %d", ErrInvalidRequest, maxListLimit)
	}
	id, err := e.repoID(ctx, did)
	if err != nil {
		return nil, "", err
	}
	page, err := e.page(ctx, id, did, collection, opts)
	if err != nil {
		return nil, "", fmt.Errorf("list %s of %s: %w", collection, did, err)
	}
	if len(page) <= opts.Limit {
		return page, "", nil
	}
	page = page[:opts.Limit]
	return page, string(page[opts.Limit-1].RKey), nil
}

// afterAllKeys follows every record key: they are of ASCII without control characters.
const afterAllKeys = "\x7f"

// page reads one record more than asked for, to know whether there are more.
func (e *Engine) page(ctx context.Context, repo int64, did syntax.DID, collection syntax.NSID, opts ListOptions) ([]Record, error) {
	// A plain comparison: with an OR the index would be walked from its end for each page.
	query := `SELECT r.rkey, r.cid, b.content FROM record r JOIN block b ON b.repo_id = r.repo_id AND b.cid = r.cid
		WHERE r.repo_id = ?1 AND r.collection = ?2 AND r.rkey < ?3 ORDER BY r.rkey DESC LIMIT ?4`
	if opts.Cursor == "" && !opts.Reverse {
		opts.Cursor = afterAllKeys
	}
	if opts.Reverse {
		query = `SELECT r.rkey, r.cid, b.content FROM record r JOIN block b ON b.repo_id = r.repo_id AND b.cid = r.cid
		WHERE r.repo_id = ?1 AND r.collection = ?2 AND r.rkey > ?3 ORDER BY r.rkey LIMIT ?4`
	}
	rows, err := e.reader.QueryContext(ctx, query, repo, collection, opts.Cursor, opts.Limit+1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Record
	for rows.Next() {
		r := Record{Collection: collection}
		var c, raw []byte
		if err := rows.Scan(&r.RKey, &c, &raw); err != nil {
			return nil, err
		}
		r.URI = recordURI(did, collection, r.RKey)
		if err := r.decode(c, raw); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Records walks a whole collection in ascending key order, page by page: a record written meanwhile may be seen or not.
func (e *Engine) Records(ctx context.Context, did syntax.DID, collection syntax.NSID) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		opts := ListOptions{Limit: maxListLimit, Reverse: true}
		for {
			page, next, err := e.ListRecords(ctx, did, collection, opts)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			opts.Cursor = next
		}
	}
}

// Collections of a repository, sorted.
func (e *Engine) Collections(ctx context.Context, did syntax.DID) ([]syntax.NSID, error) {
	id, err := e.repoID(ctx, did)
	if err != nil {
		return nil, err
	}
	rows, err := e.reader.QueryContext(ctx, `SELECT DISTINCT collection FROM record WHERE repo_id = ? ORDER BY collection`, id)
	if err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", did, err)
	}
	defer rows.Close()
	out := []syntax.NSID{}
	for rows.Next() {
		var c syntax.NSID
		if err := rows.Scan(&c); err != nil {
			return nil, fmt.Errorf("list the collections of %s: %w", did, err)
		}
		out = append(out, c)
	}
	return out, rows.Err()
}
