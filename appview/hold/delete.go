package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/pds"
)

// manifestURI is how layer records name a manifest.
func manifestURI(did syntax.DID, d digest.Digest) syntax.ATURI {
	return syntax.ATURI(records.ManifestURI(did, d))
}

// deleted takes a manifest's layer records away, and with them what it used of the quota. Its blobs go with the first
// sweep after UploadTTL, unless another manifest names them or they are used until then: a push in progress may have
// been told that they are here. Repeated it does the same again.
func (s *Server) deleted(w http.ResponseWriter, r *http.Request, in notification, d digest.Digest) error {
	unlock := s.userLocks.lock(in.UserDID.String())
	defer unlock()
	current, err := s.ledger.Deleted(r.Context(), ledger.Notified{DID: in.UserDID, Manifest: d, Rev: in.rev(), Now: s.now()})
	if err != nil {
		return err
	}
	removed := 0
	if current {
		if removed, err = s.removeLayers(r.Context(), manifestURI(in.UserDID, d)); err != nil {
			return err
		}
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"success": true, "operation": operationDelete, "statsUpdated": false, "layersDeleted": removed})
	return nil
}

// removeLayers deletes the layer records of a manifest, and then forgets them: after a crash in between they are
// deleted again. The caller holds the user's lock.
func (s *Server) removeLayers(ctx context.Context, manifest syntax.ATURI) (int, error) {
	layers, err := s.ledger.LayersOf(ctx, manifest)
	if err != nil {
		return 0, err
	}
	var keys []syntax.RecordKey
	for _, l := range layers {
		keys = append(keys, l.RKey)
	}
	if err := s.deleteLayerRecords(ctx, keys); err != nil {
		return 0, err
	}
	return len(layers), s.ledger.ForgetLayers(ctx, manifest)
}

func (s *Server) deleteLayerRecords(ctx context.Context, keys []syntax.RecordKey) error {
	for len(keys) > 0 {
		n := min(len(keys), pds.MaxWrites)
		var writes []pds.Write
		for _, key := range keys[:n] {
			writes = append(writes, pds.Write{Op: pds.Delete, Collection: layerCollection, RKey: key})
		}
		if _, _, err := s.engine.ApplyWrites(ctx, s.self.did, writes, cid.Undef); err != nil {
			return fmt.Errorf("delete layer records: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}

// sweepDeleted takes from users the blobs that only manifests named which were deleted long enough ago, or reserved
// and never pushed, or missed for the grace period. What the user's PDS says decides: manifests may have been pushed through another registry. Users
// whose PDS cannot be read keep theirs until it can.
func (s *Server) sweepDeleted(ctx context.Context) error {
	now := s.now()
	deleted, reserved := now.Add(-s.cfg.UploadTTL), now.Add(-notifyHorizon)
	dead, err := s.ledger.DeadManifests(ctx, "", deleted, now.Add(-s.cfg.GCGrace), reserved)
	if err != nil {
		return err
	}
	byUser := map[syntax.DID][]digest.Digest{}
	for _, m := range dead {
		byUser[m.DID] = append(byUser[m.DID], m.Manifest)
	}
	var errs []error
	for did, manifests := range byUser {
		errs = append(errs, s.releaseUnused(ctx, did, manifests, nil, deleted, reserved))
	}
	return errors.Join(append(errs, s.ledger.ForgetManifests(ctx, reserved), s.ledger.ForgetReadOfOthers(ctx))...)
}

// sweepUnnamed takes from users the blobs that they uploaded longer than UploadTTL ago for no manifest: clients that gave
// up between the last layer and the manifest leave them. As with deleted manifests, what the user's PDS says decides.
func (s *Server) sweepUnnamed(ctx context.Context) error {
	now := s.now()
	used, reserved := now.Add(-s.cfg.UploadTTL), now.Add(-notifyHorizon)
	unnamed, err := s.ledger.UnnamedBlobs(ctx, "", used)
	if err != nil {
		return err
	}
	byUser := map[syntax.DID][]digest.Digest{}
	for _, u := range unnamed {
		byUser[u.DID] = append(byUser[u.DID], u.Digest)
	}
	var errs []error
	for did, blobs := range byUser {
		errs = append(errs, s.releaseUnused(ctx, did, nil, blobs, used, reserved))
	}
	return errors.Join(errs...)
}

// releaseUnused is release and removeUnnamed of many, for a user whose PDS can be read.
func (s *Server) releaseUnused(ctx context.Context, did syntax.DID, dead, unnamed []digest.Digest, used, reserved time.Time) error {
	public, err := s.reader.read(ctx, did)
	if err != nil {
		s.log.InfoContext(ctx, "blobs of deleted manifests, or of none, stay: the user's manifests cannot be read", "did", did, "error", err)
		return nil
	}
	var errs []error
	for _, m := range dead {
		errs = append(errs, s.release(ctx, did, m, public, used, reserved))
	}
	for _, d := range unnamed {
		errs = append(errs, s.removeUnnamed(ctx, did, d, public, used, reserved))
	}
	return errors.Join(errs...)
}

// release takes the blobs of a manifest that is gone from its user. One that is public after all gets its records.
func (s *Server) release(ctx context.Context, did syntax.DID, manifest digest.Digest, public *published, used, reserved time.Time) error {
	unlock := s.userLocks.lock(did.String())
	defer unlock()
	if m, ok := public.manifests[manifest]; ok {
		return s.tell(ctx, did, manifest, m)
	}
	if still, err := s.reader.current(ctx, did, public); err != nil || !still {
		return err // a manifest may be public since that names them: the next pass sees
	}
	blobs, err := s.ledger.BlobsOf(ctx, did, manifest)
	if err != nil {
		return err
	}
	for _, d := range blobs {
		if public.named[d] {
			continue
		}
		gone, err := s.ledger.UnlinkUnused(ctx, did, d, reserved, used)
		if err != nil {
			return err
		}
		if gone {
			s.collect(ctx, d)
		}
	}
	return s.ledger.ForgetBlobs(ctx, ledger.Dead{DID: did, Manifest: manifest}, reserved)
}

func (s *Server) removeUnnamed(ctx context.Context, did syntax.DID, d digest.Digest, public *published, used, reserved time.Time) error {
	unlock := s.userLocks.lock(did.String())
	defer unlock()
	if public.named[d] { // by a manifest that no registry told of: it counts from now on
		for manifest, m := range public.manifests {
			if m.names(d) {
				return s.tell(ctx, did, manifest, m)
			}
		}
		return s.ledger.Use(ctx, did, d, s.now()) // by a record without the manifest's bytes
	}
	if still, err := s.reader.current(ctx, did, public); err != nil || !still {
		return err // a manifest may be public since that names it: the next pass sees
	}
	gone, err := s.ledger.UnlinkUnused(ctx, did, d, reserved, used)
	if gone {
		s.collect(ctx, d)
	}
	return err
}
