package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"

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
// and never pushed.
func (s *Server) sweepDeleted(ctx context.Context) error {
	now := s.now()
	deleted, reserved := now.Add(-s.cfg.UploadTTL), now.Add(-notifyHorizon)
	for {
		dead, err := s.ledger.DeadManifests(ctx, deleted, reserved)
		if err != nil {
			return err
		}
		for _, m := range dead {
			if err := s.unlinkBlobsOf(ctx, m); err != nil {
				return err
			}
		}
		if len(dead) == 0 {
			return s.ledger.ForgetManifests(ctx, reserved)
		}
	}
}

func (s *Server) unlinkBlobsOf(ctx context.Context, m ledger.Dead) error {
	now := s.now()
	reserved := now.Add(-notifyHorizon)
	blobs, err := s.ledger.BlobsOf(ctx, m.DID, m.Manifest)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range blobs {
		gone, err := s.ledger.UnlinkUnused(ctx, m.DID, d, reserved, now.Add(-s.cfg.UploadTTL))
		if err != nil {
			errs = append(errs, err)
		} else if gone {
			s.collect(ctx, d)
		}
	}
	return errors.Join(append(errs, s.ledger.ForgetBlobs(ctx, m, reserved))...)
}
