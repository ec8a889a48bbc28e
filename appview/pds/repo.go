package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// repoState is a repository in memory. Only who holds Engine.mu may touch it.
type repoState struct {
	id   int64
	did  syntax.DID
	key  atcrypto.PrivateKeyExportable
	tree *mst.Tree
	head cid.Cid
	data cid.Cid
	rev  syntax.TID
}

// CreateRepo makes an empty repository with a first signed commit (ErrRepoExists).
func (e *Engine) CreateRepo(ctx context.Context, repo NewRepo) error {
	if _, err := syntax.ParseDID(string(repo.DID)); err != nil {
		return fmt.Errorf("create a repository: %w", err)
	}
	if repo.Key == nil {
		return fmt.Errorf("create the repository of %s: no signing key", repo.DID)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if has, err := e.HasRepo(ctx, repo.DID); err != nil {
		return err
	} else if has {
		return fmt.Errorf("create the repository of %s: %w", repo.DID, ErrRepoExists)
	}

	empty := mst.NewEmptyTree()
	st := &repoState{did: repo.DID, key: repo.Key, tree: &empty}
	p, err := e.buildCommit(st, nil)
	if err != nil {
		return fmt.Errorf("create the repository of %s: %w", repo.DID, err)
	}
	events := []draft{identityEvent(repo.DID, repo.Handle), accountEvent(repo.DID), commitEvent(st, p), syncEvent(repo.DID, p)}
	err = e.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO repo (did, signing_key, head, data, rev) VALUES (?, ?, x'', x'', '')`, repo.DID, repo.Key.Multibase())
		if err != nil {
			return fmt.Errorf("insert the repository: %w", err)
		}
		if st.id, err = res.LastInsertId(); err != nil {
			return fmt.Errorf("insert the repository: %w", err)
		}
		return e.storeCommit(ctx, tx, st, p, events)
	})
	if err != nil {
		return fmt.Errorf("create the repository of %s: %w", repo.DID, err)
	}
	e.published(st, p, len(events))
	e.repos.Add(repo.DID, st)
	return nil
}

// RotateKey replaces the signing key and signs a fresh commit with it; a no-op when the key is the same.
func (e *Engine) RotateKey(ctx context.Context, did syntax.DID, key atcrypto.PrivateKeyExportable) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	st, err := e.load(ctx, did)
	if err != nil {
		return fmt.Errorf("rotate the signing key of %s: %w", did, err)
	}
	if st.key.Equal(key) {
		return nil
	}
	rotated := *st
	rotated.key = key
	p, err := e.buildCommit(&rotated, nil)
	if err != nil {
		return fmt.Errorf("rotate the signing key of %s: %w", did, err)
	}
	events := []draft{identityEvent(did, ""), commitEvent(st, p), syncEvent(did, p)}
	err = e.inTx(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE repo SET signing_key = ? WHERE id = ?`, key.Multibase(), st.id); err != nil {
			return fmt.Errorf("update the signing key: %w", err)
		}
		return e.storeCommit(ctx, tx, st, p, events)
	})
	if err != nil {
		e.repos.Remove(did)
		return fmt.Errorf("rotate the signing key of %s: %w", did, err)
	}
	st.key = key
	e.published(st, p, len(events))
	return nil
}

// load returns the cached state of a repository or reads it. Call with mu held.
func (e *Engine) load(ctx context.Context, did syntax.DID) (*repoState, error) {
	if st, ok := e.repos.Get(did); ok {
		return st, nil
	}
	st := &repoState{did: did}
	var key string
	var head, data []byte
	err := e.writer.QueryRowContext(ctx, `SELECT id, signing_key, head, data, rev FROM repo WHERE did = ?`, did).
		Scan(&st.id, &key, &head, &data, &st.rev)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%s: %w", did, ErrRepoNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	if st.key, err = atcrypto.ParsePrivateMultibase(key); err != nil {
		return nil, fmt.Errorf("parse the signing key: %w", err)
	}
	if st.head, err = cid.Cast(head); err != nil {
		return nil, fmt.Errorf("parse the head: %w", err)
	}
	if st.data, err = cid.Cast(data); err != nil {
		return nil, fmt.Errorf("parse the MST root: %w", err)
	}
	st.tree, err = loadTree(ctx, st.data, func(ctx context.Context, c cid.Cid) ([]byte, error) {
		return readBlock(ctx, e.writer, st.id, c)
	})
	if err != nil {
		return nil, err
	}
	e.repos.Add(did, st)
	return st, nil
}

// querier is what *sql.DB and *sql.Tx share.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func readBlock(ctx context.Context, q querier, repo int64, c cid.Cid) ([]byte, error) {
	var raw []byte
	err := q.QueryRowContext(ctx, `SELECT content FROM block WHERE repo_id = ? AND cid = ?`, repo, c.Bytes()).Scan(&raw)
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", c, err)
	}
	return raw, nil
}

// HasRepo reports whether the engine hosts the DID.
func (e *Engine) HasRepo(ctx context.Context, did syntax.DID) (bool, error) {
	_, err := e.repoID(ctx, did)
	if errors.Is(err, ErrRepoNotFound) {
		return false, nil
	}
	return err == nil, err
}

// repoID looks up the row of a repository (ErrRepoNotFound).
func (e *Engine) repoID(ctx context.Context, did syntax.DID) (int64, error) {
	if id, ok := e.ids.Load(did); ok {
		return id.(int64), nil
	}
	var id int64
	err := e.reader.QueryRowContext(ctx, `SELECT id FROM repo WHERE did = ?`, did).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%s: %w", did, ErrRepoNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("look up the repository of %s: %w", did, err)
	}
	e.ids.Store(did, id)
	return id, nil
}

// SigningKey of a repository (ErrRepoNotFound).
func (e *Engine) SigningKey(ctx context.Context, did syntax.DID) (atcrypto.PrivateKeyExportable, error) {
	var multibase string
	err := e.reader.QueryRowContext(ctx, `SELECT signing_key FROM repo WHERE did = ?`, did).Scan(&multibase)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%s: %w", did, ErrRepoNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signing key of %s: %w", did, err)
	}
	key, err := atcrypto.ParsePrivateMultibase(multibase)
	if err != nil {
		return nil, fmt.Errorf("parse the signing key of %s: %w", did, err)
	}
	return key, nil
}

// LatestCommit of a repository (ErrRepoNotFound).
func (e *Engine) LatestCommit(ctx context.Context, did syntax.DID) (Commit, error) {
	var head []byte
	var c Commit
	err := e.reader.QueryRowContext(ctx, `SELECT head, rev FROM repo WHERE did = ?`, did).Scan(&head, &c.Rev)
	if errors.Is(err, sql.ErrNoRows) {
		return c, fmt.Errorf("%s: %w", did, ErrRepoNotFound)
	}
	if err != nil {
		return c, fmt.Errorf("read the latest commit of %s: %w", did, err)
	}
	if c.CID, err = cid.Cast(head); err != nil {
		return c, fmt.Errorf("parse the latest commit of %s: %w", did, err)
	}
	return c, nil
}

// ListRepos pages through the hosted repositories, by creation; limit is 1..1000, 0 means 500.
func (e *Engine) ListRepos(ctx context.Context, cursor string, limit int) ([]RepoInfo, string, error) {
	after := int64(0)
	if cursor != "" {
		var err error
		if after, err = strconv.ParseInt(cursor, 10, 64); err != nil {
			return nil, "", fmt.Errorf("%w: malformed cursor", ErrInvalidRequest)
		}
	}
	if limit == 0 {
		limit = 500
	}
	if limit < 1 || limit > 1000 {
		return nil, "", fmt.Errorf("%w: limit must be 1 to 1000", ErrInvalidRequest)
	}
	rows, err := e.reader.QueryContext(ctx, `SELECT id, did, head, rev FROM repo WHERE id > ? ORDER BY id LIMIT ?`, after, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list the repositories: %w", err)
	}
	defer rows.Close()
	var out []RepoInfo
	var last int64
	for rows.Next() {
		if len(out) == limit {
			return out, strconv.FormatInt(last, 10), nil
		}
		var r RepoInfo
		var head []byte
		if err := rows.Scan(&last, &r.DID, &head, &r.Rev); err != nil {
			return nil, "", fmt.Errorf("list the repositories: %w", err)
		}
		if r.Head, err = cid.Cast(head); err != nil {
			return nil, "", fmt.Errorf("parse the head of %s: %w", r.DID, err)
		}
		out = append(out, r)
	}
	return out, "", rows.Err()
}
