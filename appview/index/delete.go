package index

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/holdclient"
)

// InUse says that a manifest is an entry of an index, which would be broken without it.
type InUse struct{ Index digest.Digest }

func (e *InUse) Error() string { return "the manifest is an entry of the index " + string(e.Index) }

// DeleteTag deletes a tag, and nothing else: what it named stays until it is deleted itself.
func (m *Mirror) DeleteTag(ctx context.Context, did syntax.DID, repository, tag string) error {
	if err := m.Settled(ctx, did, m.TTL); err != nil {
		return err
	}
	for more := true; more; {
		err := m.write(ctx, did, func(ctx context.Context, _ error) (*batch, error) {
			rows, err := read(ctx, m.Store, func(q querier) ([]*Tag, error) { return tagRows(ctx, q, did, repository, tag) })
			if err != nil {
				return nil, fmt.Errorf("plan delete: %w", err)
			}
			if len(rows) == 0 {
				return nil, ErrNotFound
			}
			now := rows[max(len(rows)-atproto.MaxWrites, 0):] // the newest of many records for one tag goes last
			more = len(now) < len(rows)
			b := &batch{}
			b.dropTags(now)
			return b, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// DeleteManifest takes a manifest and its tags out of a repository. The record itself goes only when no other repository
// of the DID was pushed it, tags it, has an index with it, or has a referrer to it. An entry of an index of the same
// repository stays until the index goes: the error is [InUse].
func (m *Mirror) DeleteManifest(ctx context.Context, did syntax.DID, repository string, d digest.Digest) error {
	if err := m.Settled(ctx, did, m.TTL); err != nil {
		return err
	}
	for more := true; more; {
		err := m.write(ctx, did, func(ctx context.Context, _ error) (b *batch, err error) {
			b, more, err = m.planDelete(ctx, did, repository, d)
			return b, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// planDelete plans one call to the PDS; more says that tags are left for another, since a call has a bounded number of
// writes. The manifest goes with the last of its tags.
func (m *Mirror) planDelete(ctx context.Context, did syntax.DID, repository string, d digest.Digest) (b *batch, more bool, err error) {
	var row *Manifest
	var tags []*Tag
	var keepers []string
	err = m.Store.Read(ctx, func(q querier) (err error) {
		if row, err = wholeManifest(ctx, q, did, d); err != nil {
			return err
		}
		ok, err := visible(ctx, q, did, repository, d)
		if err == nil && !ok {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := unlessEntry(ctx, q, did, repository, d); err != nil {
			return err
		}
		if tags, err = tagsOfDigest(ctx, q, did, repository, d); err != nil {
			return err
		}
		keepers, err = others(ctx, q, did, repository, d)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("plan delete: %w", err)
	}
	b = &batch{}
	if len(tags) >= atproto.MaxWrites {
		b.dropTags(tags[:atproto.MaxWrites])
		return b, true, nil
	}
	b.dropTags(tags)
	if len(keepers) == 0 {
		b.writes = append(b.writes, atproto.Write{Action: atproto.Delete, Collection: CollectionManifest, RKey: row.RKey})
		b.change.deleteManifests = []digest.Digest{d}
		if row.Hold != "" {
			b.notify = &outboxItem{did: did, hold: row.Hold, record: row.RKey, notification: holdclient.Notification{
				Repository: repository, UserDID: did, ManifestDigest: string(d), Operation: "delete"}}
		}
		return b, false, nil
	}
	if !slices.Contains(row.Repositories, repository) {
		return b, false, nil
	}
	r, err := m.PDS.GetRecord(ctx, did, CollectionManifest, row.RKey)
	if errors.Is(err, atproto.ErrRecordNotFound) {
		return nil, false, errBehind
	}
	if err != nil {
		return nil, false, err
	}
	rec, err := records.ParseManifest(r.Value)
	if err != nil { // another AppView has just written it
		return nil, false, fmt.Errorf("plan delete: %w: %w", errBehind, err)
	}
	last := rec.Repository
	if last == repository {
		last = keepers[0]
	}
	if err := setRepositories(rec, last, keepers); err != nil {
		return nil, false, err
	}
	if rec.CreatedAt.IsZero() { // whoever wrote it had no date that can be read
		rec.CreatedAt = records.Time{Time: m.Now()}
	}
	row.Repository, row.Repositories = last, keepers
	b.writes = append(b.writes, atproto.Write{Action: atproto.Update, Collection: CollectionManifest, RKey: row.RKey, Value: rec})
	b.change.putManifests = []*Manifest{row}
	return b, false, nil
}

// unlessEntry refuses a manifest that an index of the repository names.
func unlessEntry(ctx context.Context, q querier, did syntax.DID, repository string, d digest.Digest) error {
	parents, err := texts(ctx, q, `SELECT parent FROM manifest_refs WHERE did = $1 AND child = $2 AND kind = 'manifest' ORDER BY parent`,
		string(did), string(d))
	if err != nil {
		return err
	}
	for _, parent := range parents {
		ok, err := visible(ctx, q, did, repository, digest.Digest(parent))
		if err != nil {
			return err
		}
		if ok {
			return &InUse{digest.Digest(parent)}
		}
	}
	return nil
}

func (b *batch) dropTags(rows []*Tag) {
	for _, t := range rows {
		b.writes = append(b.writes, atproto.Write{Action: atproto.Delete, Collection: CollectionTag, RKey: t.RKey})
		b.change.deleteTags = append(b.change.deleteTags, t.RKey)
	}
}
