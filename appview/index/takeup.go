package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/store"
)

// Anybody is a user of this server whose records somebody asks for, writes as many as he likes, and has as many accounts.
const (
	maxRows       = 1_000_000 // that the mirror of one DID has, about 100,000 images of ten layers; with indexes about 400 MB
	maxAllRows    = 50 * maxRows
	partRows      = 2_000 // of one transaction
	deleteRows    = 50    // what deleting a manifest is reckoned to cost
	annotationRow = 64    // bytes of annotations that count as a row
)

// rows is what a manifest takes of maxRows.
func (m *Manifest) rows() int {
	return 1 + len(m.Repositories) + len(m.Children) + len(m.Blobs) + len(m.Annotations)/annotationRow
}

// listed is what listRecords answered, up to limit rows: of more, the newest.
type listed struct {
	manifests []*Manifest
	tags      []*Tag
	dropped   int // records that are left out

	limit int
	rows  int // of manifests
	place map[digest.Digest]int
}

func newListed(limit int) *listed { return &listed{limit: limit, place: map[digest.Digest]int{}} }

// add takes a manifest up, when all tags are there. Of two records for one digest, the one under the usual key counts.
func (l *listed) add(row *Manifest) {
	i, twice := l.place[row.Digest]
	switch {
	case !twice:
		l.place[row.Digest] = len(l.manifests)
		l.manifests = append(l.manifests, row)
		l.rows += row.rows()
	case row.RKey == records.ManifestRKey(row.Digest):
		l.rows += row.rows() - l.manifests[i].rows()
		l.manifests[i] = row
	}
	if l.rows > l.limit+l.limit/4 {
		l.keepNewest()
	}
}

// keepNewest leaves out manifests until the rest fits. A manifest is as new as its record, the tags that name it, or the
// index that has it, whichever is newest.
func (l *listed) keepNewest() {
	room := l.limit - min(len(l.tags), l.limit/2)
	if l.rows <= room {
		return
	}
	at := map[digest.Digest]int64{}
	for _, t := range l.tags {
		at[t.Digest] = max(at[t.Digest], t.UpdatedAt)
	}
	newest := func(m *Manifest) int64 { return max(m.at, at[m.Digest]) }
	for _, m := range l.manifests {
		for _, c := range m.Children {
			at[c] = max(at[c], newest(m))
		}
	}
	slices.SortStableFunc(l.manifests, func(a, b *Manifest) int {
		return cmp.Or(cmp.Compare(newest(b), newest(a)), cmp.Compare(len(a.Children), len(b.Children))) // entries before their index
	})
	kept, rows := 0, 0
	for ; kept < len(l.manifests) && rows+l.manifests[kept].rows() <= room; kept++ {
		rows += l.manifests[kept].rows()
	}
	l.dropped += len(l.manifests) - kept
	clear(l.manifests[kept:])
	l.manifests, l.rows = l.manifests[:kept], rows
	clear(l.place)
	for i, m := range l.manifests {
		l.place[m.Digest] = i
	}
}

// finish leaves out what does not fit, and then tags whose manifest was left out.
func (l *listed) finish() {
	if room := l.limit - min(l.rows, l.limit/2); len(l.tags) > room {
		slices.SortFunc(l.tags, func(a, b *Tag) int {
			return cmp.Or(cmp.Compare(b.UpdatedAt, a.UpdatedAt), cmp.Compare(b.RKey, a.RKey))
		})
		l.dropped += len(l.tags) - room
		clear(l.tags[room:])
		l.tags = l.tags[:room]
	}
	l.keepNewest()
	if l.dropped == 0 {
		return
	}
	all := len(l.tags)
	l.tags = slices.DeleteFunc(l.tags, func(t *Tag) bool {
		_, there := l.place[t.Digest]
		return !there
	})
	l.dropped += all - len(l.tags)
}

// parts splits a change into transactions of about size rows, in an order in which no tag is ever without its manifest.
func (c *change) parts(size int) []*change {
	part, rows := &change{fresh: c.fresh}, 0
	parts := []*change{part}
	next := func(cost int) *change {
		if rows > 0 && rows+cost > size {
			part, rows = &change{fresh: c.fresh}, 0
			parts = append(parts, part)
		}
		rows += cost
		return part
	}
	for _, m := range c.putManifests {
		p := next(m.rows())
		p.putManifests = append(p.putManifests, m)
	}
	for _, t := range c.putTags {
		p := next(1)
		p.putTags = append(p.putTags, t)
	}
	for _, rkey := range c.deleteTags {
		p := next(1)
		p.deleteTags = append(p.deleteTags, rkey)
	}
	for _, d := range c.deleteManifests {
		p := next(deleteRows)
		p.deleteManifests = append(p.deleteManifests, d)
	}
	return parts
}

var (
	errMoved     = fmt.Errorf("%w: another replica changed the mirror meanwhile", ErrBusy)
	errOvertaken = fmt.Errorf("%w: another replica wrote to the repository after it was read", ErrBusy)
)

// takeUp brings the rows of a DID to what was listed at now, and gives the head that they are at. A change of many rows
// is made in parts. Until the last of them the head has no commit, so that whatever ends this in between, the next look at
// the PDS reads all records again; a DID of which nothing was known before stays unknown.
func (m *Mirror) takeUp(ctx context.Context, did syntax.DID, l *listed, now head, started time.Time) (head, error) {
	var err error
	for range writeTries {
		var h head
		if h, err = m.takeUpOnce(ctx, did, l, now, started); !errors.Is(err, errMoved) {
			return h, err
		}
	}
	return head{}, err
}

func (m *Mirror) takeUpOnce(ctx context.Context, did syntax.DID, l *listed, now head, started time.Time) (head, error) {
	var at head
	var parts []*change
	err := m.Store.Read(ctx, func(q querier) (err error) {
		if at, err = readHead(ctx, q, did); err != nil {
			return err
		}
		c, err := m.difference(ctx, q, did, l)
		if err == nil {
			parts = c.parts(partRows)
		}
		return err
	})
	if err != nil {
		return head{}, err
	}
	if at.known && at.rev > now.rev { // revisions are TIDs, which sort by time
		if at.commit == "" {
			return head{}, errOvertaken
		}
		return at, nil // what was listed is older than what is stored
	}
	for i, part := range parts {
		next := head{rev: at.rev}
		if i == len(parts)-1 {
			next = now
		}
		planned := at.generation
		err := m.Store.WriteAlone(ctx, mirrorLock(did), func(tx store.Tx) error {
			current, err := readHead(ctx, tx, did)
			if err == nil && current.generation != planned {
				err = errMoved
			}
			if err == nil {
				err = part.apply(ctx, tx, did)
			}
			if err == nil {
				err = writeHead(ctx, tx, did, next, started)
			}
			if err == nil {
				_, err = tx.ExecContext(ctx, `UPDATE mirrors SET row_count = $1 WHERE did = $2`, l.rows+len(l.tags), string(did))
			}
			if err == nil {
				at, err = readHead(ctx, tx, did)
			}
			return err
		})
		if err != nil {
			return head{}, err
		}
	}
	return now, nil
}
