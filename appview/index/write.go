package index

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/store"
)

// ErrTooManyRepositories is the answer to a push of a manifest that is in as many repositories as a record can list: it
// would fall out of one of them.
var ErrTooManyRepositories = fmt.Errorf("the manifest is in %d repositories, or their names have %d bytes", maxRepositories, maxRepoBytes)

const (
	maxRecordSize   = 100_000 // bytes of JSON; larger records keep their lists only in manifestBlob
	maxCallSize     = 140_000 // bytes of JSON of one applyWrites; the reference PDS takes 150 KiB
	maxRepositories = 500     // that one record lists
	maxRepoBytes    = 20_000  // of their names together
	writeTries      = 8
	swapTries       = 3 // after which a write no longer insists on the head that it was planned against
	// MaxTags is how many tags one push may set.
	MaxTags = 100
)

// ErrBusy says that the repository changed under every attempt to write to it.
var ErrBusy = errors.New("the repository on the PDS keeps changing")

// errBehind says that the PDS no longer has a record that the mirror has.
var errBehind = fmt.Errorf("%w: the mirror is behind it", ErrBusy)

// Push is a manifest to be written.
type Push struct {
	Repository string
	Digest     digest.Digest
	Raw        []byte
	Document   *spec.Document // of Raw
	Hold       syntax.DID     // that has its blobs
	Tags       []string
}

// Put writes a manifest and its tags: the bytes as a blob on the user's PDS, then the records in one atomic
// applyWrites. When it returns, the PDS has them and the mirror shows them.
func (m *Mirror) Put(ctx context.Context, did syntax.DID, p Push) error {
	blob, err := m.PDS.UploadBlob(ctx, did, p.Document.MediaType, p.Raw)
	if err != nil {
		return err
	}
	rec, err := records.NewManifest(records.Pushed{Repository: p.Repository, Digest: p.Digest, MediaType: p.Document.MediaType,
		HoldDID: p.Hold, Raw: p.Raw, Blob: blob, Now: m.Now()})
	if err != nil {
		return err
	}
	again := false
	return m.write(ctx, did, func(ctx context.Context, last error) (*batch, error) {
		if errors.Is(last, atproto.ErrBlobNotFound) { // it went with the record of an earlier push of the same bytes
			if _, err := m.PDS.UploadBlob(ctx, did, p.Document.MediaType, p.Raw); err != nil {
				return nil, err
			}
		}
		b, err := m.planPut(ctx, did, p, *rec)
		if err == nil && again {
			err = m.takeOver(ctx, did, b)
		}
		again = true
		return b, err
	})
}

// batch is one applyWrites call and what it does to the mirror.
type batch struct {
	writes []atproto.Write
	change change
	bytes  map[digest.Digest][]byte
	notify *outboxItem
}

// write runs plan and applies it, again when the repository moved since it was read: last is then why. The queue keeps
// this process from racing with itself; swapCommit catches everybody else.
func (m *Mirror) write(ctx context.Context, did syntax.DID, plan func(ctx context.Context, last error) (*batch, error)) error {
	q := m.queue(did)
	q.mu.Lock()
	defer q.mu.Unlock()
	h, err := m.head(ctx, did)
	if err != nil {
		return err
	}
	var last error
	var refused *batch // that the PDS failed on without saying why
	notification := rand.Text()
	for try := range writeTries {
		if try > 0 {
			if err := pause(ctx, try); err != nil {
				return errors.Join(last, err)
			}
		}
		if try > 0 || !h.known || h.commit == "" {
			if h, err = m.sync(ctx, did, q); err != nil {
				return err
			}
		}
		b, err := plan(ctx, last)
		if errors.Is(err, errBehind) {
			last, refused = err, nil
			continue
		}
		if err != nil {
			return err
		}
		if len(b.writes) == 0 {
			return nil
		}
		if refused != nil && refused.same(b) {
			return last // the repository is as it was planned against: the PDS failed for another reason
		}
		// swapCommit is about the whole repository: a busy account moves it all the time for other reasons. Creates
		// and updates still fail when the record is not as planned; only the mirror's place is then unknown.
		swap := h.commit
		if try >= swapTries {
			swap = ""
		}
		if b.notify != nil {
			b.notify.id = notification
			if err := m.prepare(ctx, b.notify); err != nil {
				return err
			}
		}
		commit, err := m.PDS.ApplyWrites(ctx, did, b.writes, swap)
		if err == nil {
			if b.notify != nil {
				b.notify.notification.Rev = commit.Rev
			}
			return m.written(context.WithoutCancel(ctx), did, q, h, landed{commit, swap != ""}, b)
		}
		if !movedOn(err) {
			return err
		}
		if errors.Is(err, atproto.ErrBlobNotFound) && errors.Is(last, atproto.ErrBlobNotFound) {
			return fmt.Errorf("%w: %w", ErrBusy, err) // uploading it again did not help
		}
		last, refused = err, nil
		if serverError(err) {
			refused = b
		}
	}
	return fmt.Errorf("%w: %w", ErrBusy, last)
}

// prepare writes down a deletion before the PDS is asked for it. A push needs none: when its outcome is not stored, its
// client was told to try again, and its hold, where it was reserved, finds the record by itself.
func (m *Mirror) prepare(ctx context.Context, o *outboxItem) error {
	if o.record == "" {
		return nil
	}
	return m.Store.Write(ctx, func(tx store.Tx) error { return o.prepare(ctx, tx, m.Now()) })
}

// movedOn says whether a write may have failed because the repository is not what it was planned against. The reference
// PDS answers 500 to a create over an existing record, as to any failure of its own: planning again tells them apart.
func movedOn(err error) bool {
	return errors.Is(err, atproto.ErrInvalidSwap) || errors.Is(err, atproto.ErrRecordNotFound) || errors.Is(err, atproto.ErrBlobNotFound) || serverError(err)
}

func serverError(err error) bool {
	var pds *atproto.PDSError
	return errors.As(err, &pds) && pds.Status == http.StatusInternalServerError
}

// same says whether two plans do the same to the same records, whatever they write.
func (b *batch) same(other *batch) bool {
	return slices.EqualFunc(b.writes, other.writes, func(x, y atproto.Write) bool {
		return x.Action == y.Action && x.Collection == y.Collection && x.RKey == y.RKey
	})
}

func pause(ctx context.Context, try int) error {
	d := time.Duration(20<<try) * time.Millisecond
	d += time.Duration(mathrand.Int64N(int64(d))) // replicas that collided once should not collide again
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// landed is the commit that a write of ours made.
type landed struct {
	atproto.Commit
	exact bool // it followed the head that was planned against, and nothing else
}

// written brings the mirror to the commit that our own write made. Only then is the push or delete acknowledged: the
// notification to the hold is in the same transaction, and other replicas must see the change. When the database fails
// here, the client is told to try again, and finds the records there, or gone; see [Mirror.prepare].
func (m *Mirror) written(ctx context.Context, did syntax.DID, q *queue, before head, commit landed, b *batch) error {
	whole := false // the rows are those of the head that was planned against
	err := m.Store.WriteAlone(ctx, mirrorLock(did), func(tx store.Tx) error {
		for d, body := range b.bytes {
			if err := keepBytes(ctx, tx, d, body, m.Now()); err != nil {
				return err
			}
		}
		if b.notify != nil {
			if err := b.notify.insert(ctx, tx, m.Now()); err != nil {
				return err
			}
		}
		current, err := readHead(ctx, tx, did)
		if err != nil {
			return err
		}
		whole = current.known && current.commit == before.commit
		if commit.Rev != "" && current.rev >= commit.Rev && current.commit != "" {
			return nil // another replica has read or written since: the rows have this change, and maybe its undoing
		}
		if err := b.change.apply(ctx, tx, did); err != nil {
			return err
		}
		var after head
		if current.known { // else another replica is reading it, or dropping it
			after.rev = max(commit.Rev, current.rev) // without a commit: the next look at the PDS reads it all again
		}
		if commit.exact && commit.Rev > current.rev && whole {
			after.commit = commit.CID
		}
		return writeHead(ctx, tx, did, after, m.Now())
	})
	q.generation.Add(1)
	q.state.Lock()
	q.syncedAt, q.failedAt = m.Now(), time.Time{}
	if err != nil || !commit.exact || commit.Rev == "" || !whole {
		q.syncedAt = time.Time{}
	}
	q.state.Unlock()
	if err != nil {
		return fmt.Errorf("written to the PDS, but not to the mirror: %w", err)
	}
	return nil
}

func (m *Mirror) planPut(ctx context.Context, did syntax.DID, p Push, rec records.Manifest) (*batch, error) {
	// Again: an entry may have been deleted since the push was accepted. applyWrites insists on the head that this is
	// read at.
	if err := m.checkEntries(ctx, did, p.Document); err != nil {
		return nil, err
	}
	b := &batch{bytes: map[digest.Digest][]byte{p.Digest: p.Raw}}
	action, rkey := atproto.Create, records.ManifestRKey(p.Digest)
	repositories := []string{p.Repository}
	old, err := read(ctx, m.Store, func(q querier) (*Manifest, error) { return wholeManifest(ctx, q, did, p.Digest) })
	switch {
	case errors.Is(err, ErrNotFound):
		misfiled, err := m.texts(ctx, `SELECT digest FROM manifests WHERE did = $1 AND rkey = $2`, string(did), rkey)
		if err != nil {
			return nil, fmt.Errorf("plan push: %w", err)
		}
		if len(misfiled) > 0 { // a record that claims another digest than its key says: nobody finds that by its URI
			action, b.change.deleteManifests = atproto.Update, []digest.Digest{digest.Digest(misfiled[0])}
		}
	case err != nil:
		return nil, fmt.Errorf("plan push: %w", err)
	default:
		action, rkey = atproto.Update, old.RKey
		repositories = append(repositories, old.Repositories...)
		if err := m.keepUnknown(ctx, did, rkey, &rec); err != nil {
			return nil, err
		}
	}
	slices.Sort(repositories)
	repositories = slices.Compact(repositories)
	if len(repositories) > maxRepositories || len(strings.Join(repositories, "")) > maxRepoBytes {
		return nil, ErrTooManyRepositories
	}
	if err := setRepositories(&rec, p.Repository, repositories); err != nil {
		return nil, err
	}
	if p.Document.Subject != nil {
		if err := setExtra(&rec, extraArtifactType, p.Document.Referrer()); err != nil {
			return nil, err
		}
	}
	row := rowOf(did, p.Digest, &rec)
	row.references(p.Document)
	row.Annotations = Annotations(p.Document)
	if rec.Lossy {
		if err := setExtra(&rec, extraTrimmed, true); err != nil {
			return nil, err
		}
	}
	row.RKey, row.Size, row.ArtifactType = rkey, int64(len(p.Raw)), ArtifactType(p.Document)
	for _, tag := range p.Tags {
		if err := m.planTag(ctx, did, p, tag, b); err != nil {
			return nil, err
		}
	}
	if err := trim(&rec, b.writes); err != nil {
		return nil, err
	}
	b.writes = append([]atproto.Write{{Action: action, Collection: CollectionManifest, RKey: rkey, Value: rec}}, b.writes...)
	b.change.putManifests = []*Manifest{row}
	b.notify = notification(did, p)
	return b, nil
}

// keepUnknown carries over what an existing record holds that we do not know, and when it was made.
func (m *Mirror) keepUnknown(ctx context.Context, did syntax.DID, rkey string, rec *records.Manifest) error {
	r, err := m.PDS.GetRecord(ctx, did, CollectionManifest, rkey)
	if errors.Is(err, atproto.ErrRecordNotFound) {
		return nil // deleted meanwhile: applyWrites will say so, and the next attempt creates it
	}
	if err != nil {
		return err
	}
	old, err := records.ParseManifest(r.Value)
	if err != nil {
		return nil // not readable as a manifest: nothing to keep
	}
	rec.Keep(old)
	delete(rec.Extra, extraTrimmed)
	return nil
}

// takeOver makes updates of creates whose record key is taken by a record that cannot be read as what belongs there, and
// so is not in the mirror: it would be in the way forever.
func (m *Mirror) takeOver(ctx context.Context, did syntax.DID, b *batch) error {
	for i, w := range b.writes {
		if w.Action != atproto.Create {
			continue
		}
		_, err := m.PDS.GetRecord(ctx, did, w.Collection, w.RKey)
		if err == nil {
			b.writes[i].Action = atproto.Update
		} else if !errors.Is(err, atproto.ErrRecordNotFound) {
			return err
		}
	}
	return nil
}

// trim leaves out of a large record what its manifestBlob says anyway: PDSes refuse large JSON, whose limit the other
// writes of the same call share.
func trim(rec *records.Manifest, others []atproto.Write) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("manifest record: %w", err)
	}
	rest, err := json.Marshal(others)
	if err != nil {
		return fmt.Errorf("tag records: %w", err)
	}
	if len(b) > min(maxRecordSize, maxCallSize-len(rest)) {
		rec.Layers, rec.Manifests, rec.Annotations = nil, nil, nil
		if err := setExtra(rec, extraTrimmed, true); err != nil {
			return err
		}
		if rec.Config != nil {
			rec.Config.Annotations, rec.Config.URLs = nil, nil
		}
		if rec.Subject != nil {
			rec.Subject.Annotations, rec.Subject.URLs = nil, nil
		}
	}
	return nil
}

func (m *Mirror) planTag(ctx context.Context, did syntax.DID, p Push, tag string, b *batch) error {
	var taken []string
	rkey := records.NewTagRKey(p.Repository, tag)
	rows, err := read(ctx, m.Store, func(q querier) (rows []*Tag, err error) {
		if rows, err = tagRows(ctx, q, did, p.Repository, tag); err != nil || len(rows) > 0 {
			return rows, err
		}
		taken, err = texts(ctx, q, `SELECT rkey FROM tags WHERE did = $1 AND rkey = $2`, string(did), rkey)
		return rows, err
	})
	if err != nil {
		return fmt.Errorf("plan tag: %w", err)
	}
	if len(taken) > 0 { // by the record of another tag, whose writer makes keys by another rule
		rkey = records.SpareTagRKey(p.Repository, tag)
	}
	now := m.Now()
	rec := records.Tag{Repository: p.Repository, Tag: tag, Digest: p.Digest, MediaType: p.Document.MediaType, UpdatedAt: now, CreatedAt: now, DID: did}
	action := atproto.Create
	if len(rows) > 0 {
		action, rkey = atproto.Update, rows[0].RKey
		// A record of another AppView may be dated ahead of our clock, and the newest counts.
		if now.UnixMicro() <= rows[0].UpdatedAt {
			rec.UpdatedAt = time.UnixMicro(rows[0].UpdatedAt).Add(time.Millisecond)
		}
		r, err := m.PDS.GetRecord(ctx, did, CollectionTag, rkey)
		if err != nil && !errors.Is(err, atproto.ErrRecordNotFound) {
			return err
		}
		if err == nil {
			if old, err := records.ParseTag(did, r.Value); err == nil {
				rec.Keep(old)
			}
		}
	}
	b.writes = append(b.writes, atproto.Write{Action: action, Collection: CollectionTag, RKey: rkey, Value: rec})
	b.change.putTags = append(b.change.putTags, &Tag{RKey: rkey, Repository: p.Repository, Tag: tag, Digest: p.Digest, UpdatedAt: rec.UpdatedAt.UnixMicro()})
	extras := rows[min(len(rows), 1):] // one tag, one record: older ones would come back after a delete
	for _, extra := range extras[:min(len(extras), atproto.MaxWrites-MaxTags-1-len(b.change.deleteTags))] {
		b.writes = append(b.writes, atproto.Write{Action: atproto.Delete, Collection: CollectionTag, RKey: extra.RKey})
		b.change.deleteTags = append(b.change.deleteTags, extra.RKey)
	}
	return nil
}

// notification tells the hold what was pushed.
func notification(did syntax.DID, p Push) *outboxItem {
	n := holdclient.Notification{Repository: p.Repository, UserDID: did, ManifestDigest: string(p.Digest), Operation: "push"}
	if len(p.Tags) > 0 {
		n.Tag = p.Tags[0]
	}
	n.Manifest.MediaType = p.Document.MediaType
	if c := p.Document.Config; c != nil {
		n.Manifest.Config = &holdclient.BlobInfo{Digest: string(c.Digest), Size: c.Size, MediaType: c.MediaType}
	}
	for _, l := range p.Document.Layers {
		n.Manifest.Layers = append(n.Manifest.Layers, holdclient.BlobInfo{Digest: string(l.Digest), Size: l.Size, MediaType: l.MediaType})
	}
	for _, c := range p.Document.Manifests {
		item := holdclient.ManifestItem{BlobInfo: holdclient.BlobInfo{Digest: string(c.Digest), Size: c.Size, MediaType: c.MediaType}}
		if c.Platform != nil {
			item.Platform = &holdclient.Platform{OS: c.Platform.OS, Architecture: c.Platform.Architecture}
		}
		n.Manifest.Manifests = append(n.Manifest.Manifests, item)
	}
	return &outboxItem{did: did, hold: p.Hold, notification: n}
}
