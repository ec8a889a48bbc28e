package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/observe"
)

const (
	maxManifest = 4 << 20 // bytes of a manifest that is read; registries take no larger one
	readTries   = 3       // of a repository that changes while it is read

	// Users choose their PDSes. One that has more to say, or takes longer to say it, cannot be read: nothing of the user's
	// is collected.
	maxRecordBytes = 64 << 20  // of records, and of manifests as they are read, or as what they name was kept
	maxNamed       = 1_000_000 // mentions of blobs by all manifests of a user
	readTime       = 2 * time.Minute
)

// namedBlobs is what a manifest names in a hold.
type namedBlobs struct {
	Repository string      `json:"-"`
	Config     *namedBlob  `json:"config,omitempty"`
	Layers     []namedBlob `json:"layers,omitempty"`
	Blobs      []namedBlob `json:"blobs,omitempty"` // of the artifact manifests of release candidates of OCI 1.1
}

// published is everything that a user has made public, whatever is tagged: its manifests, and all that these name.
type published struct {
	rev       string // of the user's repository
	manifests map[digest.Digest]namedBlobs
	named     map[digest.Digest]bool
	mentions  int
	bytes     int
}

// publishedReader reads manifests from the PDSes of users.
type publishedReader struct {
	pds    *atproto.PDS
	ledger *ledger.Ledger
	time   time.Duration // for one user
	bytes  int           // of one user's records and manifests
}

func (s *Server) newPublishedReader(ids Identities) *publishedReader {
	client := *s.metrics.upstream.Client(diddoc.NewClient(s.cfg.policy(), diddoc.Options{}), observe.PDS)
	client.Timeout = 0 // calls have deadlines of their own
	return &publishedReader{pds: atproto.NewPDS(ids, &client, nil), ledger: s.ledger, time: readTime, bytes: maxRecordBytes}
}

// read reads all manifests of a user. It fails unless every one of them could be read, from a repository that stood
// still meanwhile: whoever deletes what it does not name must know all.
func (p *publishedReader) read(ctx context.Context, did syntax.DID) (*published, error) {
	ctx, cancel := context.WithTimeout(ctx, p.time)
	defer cancel()
	_, rev, err := p.pds.LatestCommit(ctx, did)
	if err != nil {
		return nil, err
	}
	if told, err := p.ledger.NewestRev(ctx, did); err != nil {
		return nil, err
	} else if rev < told {
		return nil, errors.New("the PDS has an older state of the repository than a registry told of: it was left, or put back to a copy")
	}
	if kept, bytes, err := p.ledger.ReadManifests(ctx, did); err != nil {
		return nil, err
	} else if bytes > p.bytes { // more than can be read at once: most is of manifests that are gone
		if err := p.ledger.ForgetRead(ctx, did, kept); err != nil {
			return nil, err
		}
	}
	for range readTries {
		out := &published{rev: rev, manifests: map[digest.Digest]namedBlobs{}, named: map[digest.Digest]bool{}}
		if err := p.list(ctx, did, out); err != nil {
			return nil, err
		}
		if _, rev, err = p.pds.LatestCommit(ctx, did); err != nil {
			return nil, err
		}
		if rev == out.rev {
			return out, p.forget(ctx, did, out)
		}
	}
	return nil, errors.New("the repository kept changing while it was read")
}

// forget forgets what was kept of manifests that the user has no more.
func (p *publishedReader) forget(ctx context.Context, did syntax.DID, public *published) error {
	kept, _, err := p.ledger.ReadManifests(ctx, did)
	if err != nil {
		return err
	}
	return p.ledger.ForgetRead(ctx, did, slices.DeleteFunc(kept, func(d digest.Digest) bool { _, ok := public.manifests[d]; return ok }))
}

// count adds to the bytes that were read of a user, and fails when they are too many.
func (p *publishedReader) count(out *published, n int) error {
	if out.bytes += n; out.bytes > p.bytes {
		return fmt.Errorf("the user's manifests and their records have more than %d bytes", p.bytes)
	}
	return nil
}

// absent are those of some manifests of which the PDS says, one by one, that they are not there: a list may have left them out.
// Those that it does not come to in time, or not any more, are left to the next collection. It fails when the PDS has
// one, or says nothing.
func (p *publishedReader) absent(ctx context.Context, did syntax.DID, manifests []digest.Digest) ([]digest.Digest, error) {
	within, cancel := context.WithTimeout(ctx, p.time)
	defer cancel()
	for i, d := range manifests {
		_, err := p.pds.GetRecord(within, did, records.CollectionManifest, records.ManifestRKey(d))
		if err == nil {
			return nil, fmt.Errorf("the PDS leaves the manifest %s out of its list", d)
		}
		if !errors.Is(err, atproto.ErrRecordNotFound) {
			if i == 0 || ctx.Err() != nil {
				return nil, err
			}
			return manifests[:i], nil
		}
	}
	return manifests, nil
}

// current says whether the user's repository is still the one that was read.
func (p *publishedReader) current(ctx context.Context, did syntax.DID, was *published) (bool, error) {
	_, rev, err := p.pds.LatestCommit(ctx, did)
	return rev == was.rev, err
}

// list reads all records. Unlike elsewhere, a page that is no proper end is a failure.
func (p *publishedReader) list(ctx context.Context, did syntax.DID, out *published) error {
	cursor := ""
	for {
		page, next, err := p.pds.ListRecords(ctx, did, records.CollectionManifest, cursor, 0, false)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := p.count(out, len(r.Value)+len(r.URI)); err != nil {
				return err
			}
			if err := p.add(ctx, did, r, out); err != nil {
				return fmt.Errorf("%s: %w", r.URI, err)
			}
		}
		if next == "" {
			return nil
		}
		if next == cursor || len(page) == 0 {
			return errors.New("the PDS does not come to the end of its list")
		}
		cursor = next
	}
}

// add marks what one record names, and what the manifest's bytes name: records may leave lists out.
func (p *publishedReader) add(ctx context.Context, did syntax.DID, r atproto.Record, out *published) error {
	rec, err := records.ParseManifest(r.Value)
	if err != nil {
		return err
	}
	d, err := storage.ParseDigest(rec.Digest)
	if err != nil {
		return err
	}
	m := asRecorded(rec)
	switch {
	case rec.ManifestBlob != nil:
		if m, err = p.manifest(ctx, did, d, rec.ManifestBlob.CID, out); err != nil {
			return err
		}
	case rec.Config == nil && len(rec.Layers) == 0 && len(rec.Manifests) == 0 && rec.Subject == nil:
		return errors.New("the record says nothing of what the manifest names")
	}
	m.Repository = rec.Repository
	all := m.all()
	if out.mentions += 1 + len(rec.Layers) + len(all); out.mentions > maxNamed {
		return fmt.Errorf("the user's manifests name more than %d blobs", maxNamed)
	}
	if rec.Config != nil {
		out.name(rec.Config.Digest)
	}
	for _, l := range rec.Layers {
		out.name(l.Digest)
	}
	for _, b := range all {
		out.name(b.Digest)
	}
	out.manifests[d] = m
	return nil
}

// asRecorded is what a record says that the manifest names, which is all there is when it comes without the manifest's bytes.
func asRecorded(rec *records.Manifest) (m namedBlobs) {
	named := func(b records.BlobReference) namedBlob { return namedBlob{b.Digest, b.Size, b.MediaType} }
	for _, l := range rec.Layers {
		m.Layers = append(m.Layers, named(l))
	}
	if rec.Config != nil {
		config := named(*rec.Config)
		m.Config = &config
	}
	return m
}

// name marks a blob. What is no digest that a hold takes names none.
func (p *published) name(s string) {
	if d, err := storage.ParseDigest(s); err == nil {
		p.named[d] = true
	}
}

// manifest is what a manifest's bytes name. It is read once: a digest has the same bytes for ever.
func (p *publishedReader) manifest(ctx context.Context, did syntax.DID, d digest.Digest, cid string, out *published) (m namedBlobs, err error) {
	kept, err := p.ledger.ReadManifest(ctx, did, d)
	if err == nil {
		if err := p.count(out, len(kept)); err != nil {
			return m, err
		}
		return m, json.Unmarshal(kept, &m)
	}
	if !errors.Is(err, ledger.ErrNotFound) {
		return m, err
	}
	body, err := p.pds.GetBlob(ctx, did, cid, maxManifest)
	if err != nil {
		return m, err
	}
	if err := p.count(out, len(body)); err != nil {
		return m, err
	}
	if d.Algorithm().FromBytes(body) != d {
		return m, errors.New("the record does not match the manifest's bytes")
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, errors.New("the manifest's bytes are not a manifest")
	}
	m = m.short()
	b, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	return m, p.ledger.KeepManifest(ctx, did, d, b)
}

// short is what matters of all that a manifest's bytes say: what is no digest that a hold takes names nothing, and no media
// type is longer than layer records have them.
func (m namedBlobs) short() namedBlobs {
	list := func(in []namedBlob) (out []namedBlob) {
		for _, b := range in {
			if len(b.MediaType) > maxMediaType {
				b.MediaType = mediaType("")
			}
			if _, err := storage.ParseDigest(b.Digest); err == nil {
				out = append(out, b)
			}
		}
		return out
	}
	out := namedBlobs{Layers: list(m.Layers), Blobs: list(m.Blobs)}
	if m.Config != nil {
		if config := list([]namedBlob{*m.Config}); len(config) > 0 {
			out.Config = &config[0]
		}
	}
	return out
}

func (m namedBlobs) all() []namedBlob {
	all := append(append([]namedBlob{}, m.Layers...), m.Blobs...)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return all
}

func (m namedBlobs) names(d digest.Digest) bool {
	return slices.ContainsFunc(m.all(), func(b namedBlob) bool { return b.Digest == string(d) })
}
