package index

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/store"
)

// Manifest is a mirrored io.atcr.manifest record, without what only the manifest's bytes say.
type Manifest struct {
	DID          syntax.DID
	Digest       digest.Digest
	RKey         string
	CID          string // of the record
	Repository   string // the one the record names; Repositories has all
	MediaType    string
	ArtifactType string
	Size         int64
	Hold         syntax.DID
	BlobCID      string
	Subject      digest.Digest
	Annotations  json.RawMessage // for lists of referrers only, see [annotationsOf]; not in rows that answer other requests

	Repositories []string
	Children     []digest.Digest // entries of an index
	Blobs        []digest.Digest // config and layers

	at int64 // when its record was made, Unix microseconds; not stored
}

// Tag is a mirrored io.atcr.tag record.
type Tag struct {
	RKey       string
	CID        string
	Repository string
	Tag        string
	Digest     digest.Digest
	UpdatedAt  int64 // Unix microseconds; the newest of several records for one tag counts
}

// querier reads, in a snapshot or a transaction.
type querier = store.Querier

// readOne runs one statement that gives one value.
func readOne[T any](ctx context.Context, db *store.DB, query func(querier) (T, error)) (out T, err error) {
	err = db.ReadOne(ctx, func(q store.Querier) error {
		out, err = query(q)
		return err
	})
	return out, err
}

// read runs queries that see the same moment and give one value.
func read[T any](ctx context.Context, db *store.DB, query func(querier) (T, error)) (out T, err error) {
	err = db.Read(ctx, func(q store.Querier) error {
		out, err = query(q)
		return err
	})
	return out, err
}

const (
	kindManifest = "manifest"
	kindBlob     = "blob"
)

// change is what moves the mirror of a DID from one revision to the next.
type change struct {
	putManifests    []*Manifest
	deleteManifests []digest.Digest
	putTags         []*Tag
	deleteTags      []string               // record keys
	fresh           map[digest.Digest]bool // of putManifests: nothing is stored of them
}

func (c *change) apply(ctx context.Context, q store.Tx, did syntax.DID) error {
	gone := c.deleteManifests
	for _, m := range c.putManifests {
		if !c.fresh[m.Digest] {
			gone = append(gone[:len(gone):len(gone)], m.Digest)
		}
	}
	for _, d := range gone {
		if err := deleteManifestRows(ctx, q, did, d); err != nil {
			return err
		}
	}
	for _, rkey := range c.deleteTags {
		if _, err := q.ExecContext(ctx, `DELETE FROM tags WHERE did = $1 AND rkey = $2`, string(did), rkey); err != nil {
			return fmt.Errorf("mirror tag: %w", err)
		}
	}
	if err := putManifestRows(ctx, q, did, c.putManifests); err != nil {
		return fmt.Errorf("mirror manifest: %w", err)
	}
	tags := make([][]any, len(c.putTags))
	for i, t := range c.putTags {
		tags[i] = []any{string(did), clean(t.RKey), clean(t.CID), clean(t.Repository), t.Tag, string(t.Digest), t.UpdatedAt}
	}
	if err := insert(ctx, q, `tags (did, rkey, cid, repository, tag, digest, updated_at)`, `ON CONFLICT (did, rkey) DO UPDATE SET
		cid = excluded.cid, repository = excluded.repository, tag = excluded.tag, digest = excluded.digest, updated_at = excluded.updated_at`,
		tags); err != nil {
		return fmt.Errorf("mirror tag: %w", err)
	}
	return nil
}

// rowsAtOnce is how many rows one statement inserts: an account may have a hundred thousand records.
const rowsAtOnce = 100

// insert inserts rows, which all have as many values, into a table with its columns.
func insert(ctx context.Context, q store.Tx, table, conflict string, rows [][]any) error {
	for some := range slices.Chunk(rows, rowsAtOnce) {
		query := strings.Builder{}
		query.WriteString("INSERT INTO " + table + " VALUES ")
		var values []any
		for i, row := range some {
			if i > 0 {
				query.WriteByte(',')
			}
			for j, v := range row {
				query.WriteByte("(,"[min(j, 1)])
				query.WriteByte('$')
				values = append(values, v)
				query.WriteString(strconv.Itoa(len(values)))
			}
			query.WriteByte(')')
		}
		query.WriteString(" " + conflict)
		if _, err := q.ExecContext(ctx, query.String(), values...); err != nil {
			return err
		}
	}
	return nil
}

// clean makes text of what a stranger's record says: PostgreSQL keeps neither NUL nor bytes that are not UTF-8.
func clean(s string) string {
	if strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

func deleteManifestRows(ctx context.Context, q store.Tx, did syntax.DID, d digest.Digest) error {
	for _, query := range []string{
		`DELETE FROM manifests WHERE did = $1 AND digest = $2`,
		`DELETE FROM manifest_repositories WHERE did = $1 AND digest = $2`,
		`DELETE FROM manifest_refs WHERE did = $1 AND parent = $2`,
	} {
		if _, err := q.ExecContext(ctx, query, string(did), string(d)); err != nil {
			return fmt.Errorf("mirror manifest: %w", err)
		}
	}
	return nil
}

// putManifestRows inserts manifests of which nothing is stored.
func putManifestRows(ctx context.Context, q store.Tx, did syntax.DID, manifests []*Manifest) error {
	var rows, repositories, refs [][]any
	for _, m := range manifests {
		annotations := "null" // what an earlier release writes and reads
		if len(m.Annotations) > 0 {
			annotations = string(m.Annotations)
		}
		rows = append(rows, []any{string(did), string(m.Digest), clean(m.RKey), clean(m.CID), clean(m.Repository), clean(m.MediaType),
			clean(m.ArtifactType), m.Size, clean(string(m.Hold)), clean(m.BlobCID), string(m.Subject), annotations})
		for _, repo := range m.Repositories {
			repositories = append(repositories, []any{string(did), clean(repo), string(m.Digest)})
		}
		for _, c := range m.Children {
			refs = append(refs, []any{string(did), string(m.Digest), string(c), kindManifest})
		}
		for _, b := range m.Blobs {
			refs = append(refs, []any{string(did), string(m.Digest), string(b), kindBlob})
		}
	}
	if err := insert(ctx, q, `manifests (did, digest, rkey, cid, repository, media_type, artifact_type, size, hold, blob_cid, subject,
		annotations)`, ``, rows); err != nil {
		return err
	}
	const skip = `ON CONFLICT DO NOTHING`
	if err := insert(ctx, q, `manifest_repositories (did, repository, digest)`, skip, repositories); err != nil {
		return err
	}
	return insert(ctx, q, `manifest_refs (did, parent, child, kind)`, skip, refs)
}

// manifestColumns are those of what is remembered: without annotations, which strangers write by the megabyte.
const manifestColumns = `m.digest, m.rkey, m.cid, m.repository, m.media_type, m.artifact_type, m.size, m.hold, m.blob_cid,
	m.subject`

func scanManifest(did syntax.DID, row interface{ Scan(...any) error }, more ...any) (*Manifest, error) {
	m := &Manifest{DID: did}
	return m, row.Scan(append([]any{&m.Digest, &m.RKey, &m.CID, &m.Repository, &m.MediaType, &m.ArtifactType, &m.Size, &m.Hold,
		&m.BlobCID, &m.Subject}, more...)...)
}

// manifestRow reads a manifest without its repositories, children, blobs and annotations.
func manifestRow(ctx context.Context, q querier, did syntax.DID, d digest.Digest) (*Manifest, error) {
	m, err := scanManifest(did, q.QueryRowContext(ctx,
		`SELECT `+manifestColumns+` FROM manifests m WHERE m.did = $1 AND m.digest = $2`, string(did), string(d)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// wholeManifest reads a manifest with all of its rows.
func wholeManifest(ctx context.Context, q querier, did syntax.DID, d digest.Digest) (*Manifest, error) {
	m, err := manifestRow(ctx, q, did, d)
	if err != nil {
		return nil, err
	}
	if m.Annotations, err = annotationsRow(ctx, q, did, d); err != nil {
		return nil, err
	}
	if m.Repositories, err = texts(ctx, q, `SELECT repository FROM manifest_repositories WHERE did = $1 AND digest = $2
		ORDER BY repository`, string(did), string(d)); err != nil {
		return nil, err
	}
	for kind, into := range map[string]*[]digest.Digest{kindManifest: &m.Children, kindBlob: &m.Blobs} {
		list, err := texts(ctx, q, `SELECT child FROM manifest_refs WHERE did = $1 AND parent = $2 AND kind = $3`,
			string(did), string(d), kind)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			*into = append(*into, digest.Digest(s))
		}
	}
	return m, nil
}

// texts reads a column of strings.
func texts(ctx context.Context, q querier, query string, args ...any) ([]string, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// visible says whether a repository may serve a manifest of its DID: it was pushed there, a tag there names it, or an
// index for which one of these holds contains it.
func visible(ctx context.Context, q querier, did syntax.DID, repository string, d digest.Digest) (bool, error) {
	var n int
	err := q.QueryRowContext(ctx, `WITH RECURSIVE up (digest) AS (
			SELECT m.digest FROM manifests m WHERE m.did = $1 AND m.digest = $3 UNION
			SELECT r.parent FROM manifest_refs r JOIN up ON r.child = up.digest WHERE r.did = $1 AND r.kind = 'manifest')
		SELECT count(*) FROM up WHERE
			EXISTS (SELECT 1 FROM manifest_repositories p WHERE p.did = $1 AND p.repository = $2 AND p.digest = up.digest) OR
			EXISTS (SELECT 1 FROM tags t WHERE t.did = $1 AND t.repository = $2 AND t.digest = up.digest)`,
		string(did), repository, string(d)).Scan(&n)
	return n > 0, err
}

// others are the repositories besides one that need a manifest: it was pushed there, a tag or an
// index there names it, or a referrer there has it as subject.
func others(ctx context.Context, q querier, did syntax.DID, repository string, d digest.Digest) ([]string, error) {
	list, err := texts(ctx, q, `WITH RECURSIVE up (digest) AS (
			SELECT m.digest FROM manifests m WHERE m.did = $1 AND m.digest = $3 UNION
			SELECT r.parent FROM manifest_refs r JOIN up ON r.child = up.digest WHERE r.did = $1 AND r.kind = 'manifest')
		SELECT p.repository FROM manifest_repositories p JOIN up ON p.digest = up.digest WHERE p.did = $1 AND p.repository <> $2
		UNION SELECT t.repository FROM tags t JOIN up ON t.digest = up.digest WHERE t.did = $1 AND t.repository <> $2
		UNION SELECT p.repository FROM manifests s JOIN manifest_repositories p ON p.did = s.did AND p.digest = s.digest
			WHERE s.did = $1 AND s.subject = $3 AND s.subject <> '' AND p.repository <> $2`,
		string(did), repository, string(d))
	slices.Sort(list)
	return list, err
}

// tagRows are all records for one tag, the newest first.
func tagRows(ctx context.Context, q querier, did syntax.DID, repository, tag string) ([]*Tag, error) {
	return scanTags(q.QueryContext(ctx, `SELECT rkey, cid, repository, tag, digest, updated_at FROM tags
		WHERE did = $1 AND repository = $2 AND tag = $3 ORDER BY updated_at DESC, rkey DESC`, string(did), repository, tag))
}

func tagsOfDigest(ctx context.Context, q querier, did syntax.DID, repository string, d digest.Digest) ([]*Tag, error) {
	return scanTags(q.QueryContext(ctx, `SELECT rkey, cid, repository, tag, digest, updated_at FROM tags
		WHERE did = $1 AND repository = $2 AND digest = $3`, string(did), repository, string(d)))
}

func scanTags(rows *sql.Rows, err error) ([]*Tag, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*Tag
	for rows.Next() {
		t := &Tag{}
		if err := rows.Scan(&t.RKey, &t.CID, &t.Repository, &t.Tag, &t.Digest, &t.UpdatedAt); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, rows.Err()
}
