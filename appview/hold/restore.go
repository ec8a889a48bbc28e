package hold

import (
	"context"
	"errors"
	"iter"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/pds"
)

// restoreLost lets a ledger without blobs know the layer records that the repository has: it was lost.
func (s *Server) restoreLost(ctx context.Context) error {
	empty, err := s.ledger.Empty(ctx)
	if err != nil || !empty {
		return err
	}
	n, err := s.restoreLayers(ctx, s.engine.Records(ctx, s.self.did, layerCollection))
	if n > 0 {
		s.log.WarnContext(ctx, "the hold's database of blobs was lost: the blobs that layer records name belong to their users again, the others when the users' PDSes are read",
			"layers", n)
	}
	return err
}

// restoreLayers lets the ledger know layer records, and their blobs as their users'. It returns how many say something usable.
func (s *Server) restoreLayers(ctx context.Context, found iter.Seq2[pds.Record, error]) (n int, err error) {
	err = s.ledger.RestoreLayers(ctx, func(yield func(ledger.Layer, error) bool) {
		for r, err := range found {
			var l ledger.Layer
			if err == nil {
				var ok bool
				if l, ok = layerOf(r); !ok {
					s.log.WarnContext(ctx, "a layer record that names no blob of a user stays as it is", "uri", r.URI)
					continue
				}
				n++
			}
			if !yield(l, err) {
				return
			}
		}
	}, s.now())
	return n, err
}

// layerOf reads a layer record as the ledger keeps it. Those of early holds (until 2026-02) name a repository and a handle in
// place of the manifest: there the record itself stands for it. No collection takes such a layer, as nobody knows when its
// manifest is gone.
func layerOf(r pds.Record) (ledger.Layer, bool) {
	var v layer
	if decode(r.Value, &v) != nil {
		return ledger.Layer{}, false
	}
	d, err := storage.ParseDigest(v.Digest)
	if err != nil || v.Size < 0 {
		return ledger.Layer{}, false
	}
	user, err := syntax.ParseDID(v.UserDID.String())
	if err != nil {
		return ledger.Layer{}, false
	}
	manifest, err := syntax.ParseATURI(v.Manifest.String())
	if v.Manifest == "" {
		manifest, err = r.URI, nil
	}
	if err != nil {
		return ledger.Layer{}, false
	}
	at, err := syntax.ParseDatetimeLenient(v.CreatedAt)
	if err != nil {
		return ledger.Layer{}, false
	}
	return ledger.Layer{Manifest: manifest, Digest: d, DID: canonical(user), Size: v.Size, RKey: r.RKey, CreatedAt: at.Time()}, true
}

// sweepRestored gives the users of restored layers their other blobs back: image configs have no layer record. Those whose
// PDS cannot be read wait until it can.
func (s *Server) sweepRestored(ctx context.Context) error {
	restored, err := s.ledger.Restored(ctx, s.now())
	if err != nil {
		return err
	}
	var errs []error
	var unreadable []syntax.DID
	for _, did := range restored {
		public, err := s.reader.read(ctx, did)
		if err != nil {
			s.log.InfoContext(ctx, "a user's manifests cannot be read since the database was restored", "did", did, "error", err)
			unreadable = append(unreadable, did)
			continue
		}
		errs = append(errs, s.relinkUser(ctx, did, public))
	}
	if len(unreadable) > 0 && ctx.Err() == nil {
		s.log.WarnContext(ctx, "images of users cannot be pulled since the database was restored: their manifests cannot be read",
			"users", len(unreadable), "one", unreadable[0])
	}
	return errors.Join(errs...)
}

// relinkUser gives a user the blobs back that its public manifests name, of those of which the user has a layer here, and writes
// their layer records. Those of early holds, which name no manifest, have served then.
func (s *Server) relinkUser(ctx context.Context, did syntax.DID, public *published) error {
	unlock := s.userLocks.lock(did.String())
	defer unlock()
	if still, err := s.reader.current(ctx, did, public); err != nil || !still {
		return err // the next pass reads again
	}
	for d, m := range public.manifests {
		in := untold(did, d, m)
		blobs, err := in.blobs()
		if err != nil {
			return err
		}
		if here, err := s.ledger.Knows(ctx, did, d, blobs[:len(in.Manifest.Layers)], nil); err != nil {
			return err
		} else if !here {
			continue
		}
		for _, b := range m.all() {
			if err := s.relink(ctx, did, b); err != nil {
				return err
			}
		}
		if _, _, err := s.recordManifest(ctx, in, d); err != nil {
			return err
		}
	}
	served, err := s.ledger.ServedLayers(ctx, did, "at://"+s.self.did.String()+"/"+layerCollection.String()+"/")
	if err != nil {
		return err
	}
	for _, itself := range served {
		if _, err := s.removeLayers(ctx, itself); err != nil {
			return err
		}
	}
	return s.ledger.Reread(ctx, did)
}

// relink gives a user a blob back that is in the storage as a manifest names it.
func (s *Server) relink(ctx context.Context, did syntax.DID, b namedBlob) error {
	d, err := storage.ParseDigest(b.Digest)
	if err != nil {
		return nil // it cannot be in a hold
	}
	unlock, ok := s.blobLocks.rlockWithin(d.String(), s.removeTime)
	if !ok {
		return errors.New("the storage removes a blob and does not come to an end")
	}
	defer unlock()
	size, err := s.driver.Stat(ctx, d)
	if errors.Is(err, storage.ErrNotFound) || err == nil && size != b.Size {
		return nil
	}
	if err != nil {
		return err
	}
	return s.ledger.Relink(ctx, did, d, size, s.now())
}
