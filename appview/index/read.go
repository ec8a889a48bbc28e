package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// Tagged is the manifest that a tag names now.
func (m *Mirror) Tagged(ctx context.Context, did syntax.DID, repository, tag string) (*Manifest, error) {
	return look(ctx, m, did, func() (*Manifest, error) {
		return remember(ctx, m, CacheTag, answerKey{did, repository, tag}, func() (*Manifest, error) { return m.tagged(ctx, did, repository, tag) })
	})
}

func (m *Mirror) tagged(ctx context.Context, did syntax.DID, repository, tag string) (*Manifest, error) {
	return read(ctx, m.Store, func(q querier) (*Manifest, error) {
		var d digest.Digest
		err := q.QueryRowContext(ctx, `SELECT digest FROM tags WHERE did = $1 AND repository = $2 AND tag = $3
			ORDER BY updated_at DESC, rkey DESC LIMIT 1`, string(did), repository, tag).Scan(&d)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, ErrNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("read tag: %w", err)
		}
		return manifestRow(ctx, q, did, d) // which the tag makes visible
	})
}

// Tags are at most n tag names after last, in byte order, and whether there are more.
func (m *Mirror) Tags(ctx context.Context, did syntax.DID, repository, last string, n int) (tags []string, more bool, err error) {
	if err := m.Fresh(ctx, did, m.TTL); err != nil {
		return nil, false, err
	}
	tags, err = m.texts(ctx, `SELECT DISTINCT tag FROM tags WHERE did = $1 AND repository = $2 AND tag > $3
		ORDER BY tag LIMIT $4`, string(did), repository, after(last), n+1)
	if err != nil {
		return nil, false, fmt.Errorf("list tags: %w", err)
	}
	if len(tags) > n {
		return tags[:n], true, nil
	}
	return tags, false, nil
}

// after is where a page that follows last begins. What is listed is ASCII without control characters, and last is
// whatever a client sent: PostgreSQL takes neither NUL nor bytes that are not UTF-8.
func after(last string) string {
	for i := range len(last) {
		switch {
		case last[i] == 0:
			return last[:i] // the same order: everything that follows last[:i]
		case last[i] >= 0x80:
			return last[:i] + "\x7f"
		}
	}
	return last
}

// HasRepository says whether the DID has anything under this name.
func (m *Mirror) HasRepository(ctx context.Context, did syntax.DID, repository string) (bool, error) {
	has, err := m.hasRepository(ctx, did, repository)
	if has || err != nil {
		return has, err
	}
	if err := m.Settled(ctx, did, m.TTL); err != nil {
		return false, err
	}
	return m.hasRepository(ctx, did, repository)
}

func (m *Mirror) hasRepository(ctx context.Context, did syntax.DID, repository string) (bool, error) {
	return remember(ctx, m, CacheRepository, answerKey{did, repository, ""}, func() (has bool, err error) {
		return readOne(ctx, m.Store, func(q querier) (bool, error) {
			var n int
			err := q.QueryRowContext(ctx, `SELECT count(*) FROM (
				SELECT 1 FROM manifest_repositories WHERE did = $1 AND repository = $2
				UNION ALL SELECT 1 FROM tags WHERE did = $1 AND repository = $2) AS r`, string(did), repository).Scan(&n)
			if err != nil {
				return false, fmt.Errorf("find repository: %w", err)
			}
			return n > 0, nil
		})
	})
}

// Repositories are at most n repository names of a DID after last, in byte order, and whether there are more.
func (m *Mirror) Repositories(ctx context.Context, did syntax.DID, last string, n int) (names []string, more bool, err error) {
	if err := m.Fresh(ctx, did, m.TTL); err != nil {
		return nil, false, err
	}
	names, err = m.texts(ctx, `SELECT repository FROM (
			SELECT repository FROM manifest_repositories WHERE did = $1 AND repository > $2
			UNION SELECT repository FROM tags WHERE did = $1 AND repository > $2) AS r
		ORDER BY repository LIMIT $3`, string(did), after(last), n+1)
	if err != nil {
		return nil, false, fmt.Errorf("list repositories: %w", err)
	}
	if len(names) > n {
		return names[:n], true, nil
	}
	return names, false, nil
}

// Manifest is a manifest that a repository may serve. One that is mirrored is answered at once, however old the mirror:
// its digest cannot change.
func (m *Mirror) Manifest(ctx context.Context, did syntax.DID, repository string, d digest.Digest) (*Manifest, error) {
	get := func() (*Manifest, error) {
		return remember(ctx, m, CacheManifest, answerKey{did, repository, string(d)},
			func() (*Manifest, error) { return m.manifest(ctx, did, repository, d) })
	}
	found, err := get()
	if !errors.Is(err, ErrNotFound) {
		return found, err
	}
	return look(ctx, m, did, get) // from memory when nothing has changed
}

type answerKey struct {
	did             syntax.DID
	repository, ref string // ref: a tag, a digest, or empty for the repository itself
}

type answer struct {
	generation uint64
	value      any // nil: not found
}

// remember answers from memory what was read at the DID's present generation, also that something is not there. Other
// failures are not remembered.
func remember[T any](ctx context.Context, m *Mirror, cache string, key answerKey, query func() (T, error)) (v T, err error) {
	generation, err := m.generation(ctx, key.did) // before the query: a change meanwhile makes the answer old
	if err != nil {
		return v, err
	}
	lookups := m.counts.lookups[cache]
	if a, ok := m.recent.Get(key); ok && a.generation == generation {
		lookups[Hit].Add(1)
		return a.value.(T), nil
	}
	if a, ok := m.absent.Get(key); ok && a.generation == generation {
		lookups[Absent].Add(1)
		return v, ErrNotFound
	}
	lookups[Miss].Add(1)
	v, err = query()
	switch {
	case err == nil:
		m.recent.Add(key, answer{generation, v})
	case errors.Is(err, ErrNotFound):
		m.absent.Add(key, answer{generation, nil})
	}
	return v, err
}

func (m *Mirror) manifest(ctx context.Context, did syntax.DID, repository string, d digest.Digest) (*Manifest, error) {
	return read(ctx, m.Store, func(q querier) (*Manifest, error) {
		found, err := manifestRow(ctx, q, did, d)
		if err != nil {
			return nil, err
		}
		ok, err := visible(ctx, q, did, repository, d)
		if err != nil {
			return nil, fmt.Errorf("find manifest: %w", err)
		}
		if !ok {
			return nil, ErrNotFound
		}
		return found, nil
	})
}

// CameAlong says whether a manifest is an entry of an index, or a referrer: clients fetch these for the sake of another.
func (m *Mirror) CameAlong(ctx context.Context, did syntax.DID, d digest.Digest) (bool, error) {
	list, err := m.texts(ctx, `SELECT parent FROM manifest_refs WHERE did = $1 AND child = $2 AND kind = 'manifest'
		UNION ALL SELECT subject FROM manifests WHERE did = $1 AND digest = $2 AND subject <> '' LIMIT 1`, string(did), string(d))
	if err != nil {
		return false, fmt.Errorf("find parents: %w", err)
	}
	return len(list) > 0, nil
}

// Holds are the holds that the manifests of a DID name, those of manifests that name the blob first.
func (m *Mirror) Holds(ctx context.Context, did syntax.DID, blob digest.Digest) ([]syntax.DID, error) {
	list, err := m.texts(ctx, `SELECT m.hold FROM manifests m WHERE m.did = $1 AND m.hold <> '' GROUP BY m.hold
		ORDER BY max(CASE WHEN EXISTS (SELECT 1 FROM manifest_refs r WHERE r.did = $1 AND r.child = $2 AND r.parent = m.digest)
			THEN 1 ELSE 0 END) DESC, m.hold
		LIMIT 8`, string(did), string(blob))
	if err != nil {
		return nil, fmt.Errorf("find holds: %w", err)
	}
	var out []syntax.DID
	for _, s := range list {
		out = append(out, syntax.DID(s))
	}
	return out, nil
}

// BlobInUse is a manifest of the DID that names a blob; empty when there is none on the PDS now.
func (m *Mirror) BlobInUse(ctx context.Context, did syntax.DID, blob digest.Digest) (digest.Digest, error) {
	if err := m.Settled(ctx, did, 0); err != nil {
		return "", err
	}
	list, err := m.texts(ctx, `SELECT r.parent FROM manifest_refs r WHERE r.did = $1 AND r.child = $2 AND r.kind = 'blob' LIMIT 1`,
		string(did), string(blob))
	if err != nil || len(list) == 0 {
		return "", err
	}
	return digest.Digest(list[0]), nil
}

func (m *Mirror) texts(ctx context.Context, query string, args ...any) ([]string, error) {
	return readOne(ctx, m.Store, func(q querier) ([]string, error) { return texts(ctx, q, query, args...) })
}

func (m *Mirror) row(ctx context.Context, did syntax.DID, d digest.Digest) (*Manifest, error) {
	return readOne(ctx, m.Store, func(q querier) (*Manifest, error) { return manifestRow(ctx, q, did, d) })
}
