package index

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/oci/spec"
)

// maxAnnotations bounds what lists of referrers say of one manifest, in bytes of JSON. Whoever has more, up to the four
// megabytes of a manifest, is listed without: a page has to fit into the 4 MiB that clients read, a map of strings takes
// ten times its bytes in memory, and the manifest itself says them all.
const maxAnnotations = 64 << 10

// Annotations are a manifest's as they are listed, a JSON object; nil when there are none, or too many.
func Annotations(doc *spec.Document) json.RawMessage { return annotationsOf(doc.Annotations) }

// ArtifactType is a manifest's as it is listed; empty when it has none, or one that is longer than any media type.
func ArtifactType(doc *spec.Document) string { return typeOf(doc.Referrer()) }

func annotationsOf(all map[string]string) json.RawMessage {
	size := 2
	for k, v := range all {
		if size += len(`"":"",`) + len(k) + len(v); size > maxAnnotations {
			return nil
		}
	}
	b, err := json.Marshal(all)
	if err != nil || len(all) == 0 || len(b) > maxAnnotations {
		return nil
	}
	return b
}

// annotationsColumn reads no more than annotationsOf writes: earlier releases kept all of them.
var annotationsColumn = fmt.Sprintf(`CASE WHEN length(m.annotations) <= %d THEN m.annotations ELSE 'null' END`, maxAnnotations)

func annotationsText(text string) json.RawMessage {
	if text == "null" || text == "{}" {
		return nil
	}
	return json.RawMessage(text)
}

func annotationsRow(ctx context.Context, q querier, did syntax.DID, d digest.Digest) (json.RawMessage, error) {
	var text string
	err := q.QueryRowContext(ctx, `SELECT `+annotationsColumn+` FROM manifests m WHERE m.did = $1 AND m.digest = $2`, string(did), string(d)).Scan(&text)
	return annotationsText(text), err
}

// Referrers are at most n manifests of a repository whose subject is d, after the digest last, and whether there are
// more: reading ends when their annotations have more than room bytes. artifactType filters when it is not empty.
func (m *Mirror) Referrers(ctx context.Context, did syntax.DID, repository string, d digest.Digest, artifactType, last string, n, room int) (list []*Manifest, more bool, err error) {
	if err := m.Fresh(ctx, did, m.TTL); err != nil {
		return nil, false, err
	}
	if err := m.completeReferrers(ctx, did, d); err != nil {
		return nil, false, err
	}
	err = m.Store.ReadOne(ctx, func(q querier) (err error) {
		list, more, err = referrerRows(did, n, room)(q.QueryContext(ctx, `SELECT `+manifestColumns+`, `+annotationsColumn+` FROM manifests m
			JOIN manifest_repositories p ON p.did = m.did AND p.digest = m.digest
			WHERE m.did = $1 AND m.subject = $2 AND m.subject <> '' AND p.repository = $3 AND m.digest > $4
				AND ($5 = '' OR m.artifact_type = $5)
			ORDER BY m.digest LIMIT $6`, string(did), string(d), repository, after(last), clean(artifactType), n+1))
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list referrers: %w", err)
	}
	return list, more, nil
}

func referrerRows(did syntax.DID, n, room int) func(*sql.Rows, error) ([]*Manifest, bool, error) {
	return func(rows *sql.Rows, err error) (list []*Manifest, more bool, _ error) {
		if err != nil {
			return nil, false, err
		}
		defer rows.Close()
		for rows.Next() {
			if len(list) == n || room < 0 {
				return list, true, nil
			}
			var annotations string
			m, err := scanManifest(did, rows, &annotations)
			if err != nil {
				return nil, false, err
			}
			m.Annotations = annotationsText(annotations)
			room -= len(m.Annotations)
			list = append(list, m)
		}
		return list, false, rows.Err()
	}
}

// maxCompletions bounds the blobs that one referrers request reads for the sake of other AppViews' records.
const maxCompletions = 50

// completeReferrers reads the bytes of referrers whose record does not say what the referrers API lists: records have
// no artifactType, and none of ours lacks the size.
func (m *Mirror) completeReferrers(ctx context.Context, did syntax.DID, subject digest.Digest) error {
	list, err := m.texts(ctx, `SELECT digest FROM manifests WHERE did = $1 AND subject = $2 AND subject <> '' AND size = 0
		ORDER BY digest LIMIT $3`, string(did), string(subject), maxCompletions)
	if err != nil {
		return fmt.Errorf("list referrers: %w", err)
	}
	for _, s := range list {
		row, err := m.row(ctx, did, digest.Digest(s))
		if err != nil {
			return err
		}
		if _, err := m.Bytes(ctx, row); err != nil {
			m.Log.InfoContext(ctx, "a referrer is listed incompletely: its bytes cannot be read", "did", did, "digest", s, "error", err)
		}
	}
	return nil
}

// parseRoom is how many bytes of manifests are parsed at a time.
const parseRoom = 4 * spec.MaxManifestSize

// Document reads a manifest's bytes and gives use what they say, which it must not keep: parsed, a manifest takes ten
// times its bytes, so that a few at a time are, however many clients ask. A manifest that another AppView took and this one
// would not is left out: use is not called.
func (m *Mirror) Document(ctx context.Context, row *Manifest, use func(doc *spec.Document, size int64)) error {
	b, err := m.Bytes(ctx, row)
	if err != nil {
		return err
	}
	return m.parsed(ctx, b, func(doc *spec.Document) { use(doc, int64(len(b))) })
}

func (m *Mirror) parsed(ctx context.Context, b []byte, use func(*spec.Document)) error {
	if err := m.parses.Acquire(ctx, int64(len(b))); err != nil {
		return err
	}
	defer m.parses.Release(int64(len(b)))
	if doc, err := spec.ParseManifest(b, ""); err == nil {
		use(doc)
	}
	return nil
}
