package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/xrpc"
)

// spaceMultiple is how many times its quota a user may have here, counting what no manifest names: blobs that wait for
// their manifest, and those that lie here for a while after the last one that named them was deleted.
const spaceMultiple = 3

const (
	// spaceAfter is how long blobs that no manifest needs lie here in any case.
	spaceAfter = time.Hour
	// spaceTime is how long one look whether there are such takes at most, waiting for others included.
	spaceTime = time.Minute
)

// space is how many bytes a user may have here; 0: no limit.
func (s *Server) space(did syntax.DID) int64 { return spaceMultiple * min(s.tierOf(did).Limit, 1<<60) }

// underQuota refuses whoever uses more than the quota already, or has no space for another blob.
func (s *Server) underQuota(ctx context.Context, did syntax.DID) error {
	space := s.space(did)
	if space == 0 {
		return nil
	}
	q, err := s.quotaOf(ctx, did)
	if err != nil {
		return err
	}
	if q.TotalSize > q.Limit {
		return s.overQuota(did, q.TotalSize, 0, q.Limit)
	}
	linked, err := s.ledger.LinkedBytes(ctx, did, "")
	if err == nil && linked >= space {
		s.makeSpace(ctx, did, "", space-1)
		linked, err = s.ledger.LinkedBytes(ctx, did, "")
	}
	if err == nil && linked >= space {
		err = s.noSpace(did, linked, 0, space)
	}
	if err == nil {
		err = s.roomForParts(ctx, did)
	}
	return err
}

// link gives a verified blob to whoever uploaded it. One for which there is no space is given up, with its upload if it has
// one.
func (s *Server) link(ctx context.Context, u ledger.Upload) error {
	space := s.space(u.DID)
	err := s.ledger.CompleteUpload(ctx, u, space, s.now())
	var over *ledger.OverQuota
	if errors.As(err, &over) {
		s.makeSpace(ctx, u.DID, u.Digest, space-u.Size)
		err = s.ledger.CompleteUpload(ctx, u, space, s.now())
	}
	if errors.As(err, &over) {
		s.metrics.uploads.WithLabelValues("refused").Inc()
		if u.ID == "" {
			return s.noSpace(u.DID, over.Used, over.Needed, over.Limit)
		}
		if err := s.abandon(ctx, u.ID); err != nil {
			s.log.ErrorContext(ctx, "removing an upload for which there is no space", "error", err)
		}
		return s.noSpace(u.DID, over.Used, over.Needed, over.Limit)
	}
	return err
}

func (s *Server) noSpace(did syntax.DID, linked, needed, space int64) error {
	s.metrics.refusals.Inc()
	return xrpc.Errorf(http.StatusForbidden, "QuotaExceeded",
		"%s has %s of blobs in this hold, named by manifests or not, and no more than %s are kept; push the manifests that need them, or try again in an hour: the others are removed then, if your PDS can be read.",
		did, humanize.IBytes(uint64(linked)), humanize.IBytes(uint64(space))).With("totalSize", linked).With("needed", needed).With("limit", space)
}

func (s *Server) tooMuchInProgress(did syntax.DID, space int64) error {
	return xrpc.Errorf(http.StatusForbidden, "QuotaExceeded",
		"%s has uploads in progress in this hold of all the %s that they may have; complete or abort one, or leave it to expire.",
		did, humanize.IBytes(uint64(space))).With("limit", space)
}

// makeSpace does for one user what sweeps do, but for what was not used within spaceAfter, and only until the user's other
// blobs have at most so many bytes. A client that hangs up ends it not: the next one finds the space.
func (s *Server) makeSpace(ctx context.Context, did syntax.DID, other digest.Digest, most int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spaceTime)
	defer cancel()
	unlock := s.spaceLocks.lock(did.String())
	defer unlock()
	fits := func() (bool, error) {
		linked, err := s.ledger.LinkedBytes(ctx, did, other)
		return linked <= most, err
	}
	if err := s.releaseUntil(ctx, did, s.now().Add(-spaceAfter), fits); err != nil {
		s.log.WarnContext(ctx, "making space for a user", "did", did, "error", err)
	}
}

// releaseUntil takes from a user what was not used since the time and no manifest needs: first the blobs of all manifests
// that are gone, then those of none, which may be of a push that still runs, the oldest first. A manifest that was reserved
// before and is not at the user's PDS does not come any more; one that was missed by a collection may for the grace period. What
// it has looked at is not there to be looked at again.
func (s *Server) releaseUntil(ctx context.Context, did syntax.DID, since time.Time, fits func() (bool, error)) error {
	if ok, err := fits(); ok || err != nil { // somebody else has just looked
		return err
	}
	dead, err := s.ledger.DeadManifests(ctx, did, since, s.now().Add(-s.cfg.GCGrace), since)
	if err != nil {
		return err
	}
	unnamed, err := s.ledger.UnnamedBlobs(ctx, did, since)
	if err != nil || len(dead)+len(unnamed) == 0 {
		return err
	}
	public, err := s.reader.read(ctx, did)
	if err != nil {
		return fmt.Errorf("the user's manifests cannot be read: %w", err)
	}
	for _, m := range dead {
		if err := s.release(ctx, did, m.Manifest, public, since, since); err != nil {
			return err
		}
	}
	for _, u := range unnamed {
		if ok, err := fits(); ok || err != nil {
			return err
		}
		if err := s.removeUnnamed(ctx, did, u.Digest, public, since, since); err != nil {
			return err
		}
	}
	return nil
}
