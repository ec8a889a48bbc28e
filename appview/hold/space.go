package hold

import (
	"context"
	"errors"
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
	// spaceTime is how long a request waits for the look whether there are such.
	spaceTime = 10 * time.Second
	// spaceEvery is how often that is looked for one user.
	spaceEvery = time.Minute
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
	linked, err := s.ledger.LinkedBytes(ctx, did)
	if err == nil && linked >= space {
		s.makeSpace(ctx, did)
		linked, err = s.ledger.LinkedBytes(ctx, did)
	}
	if err == nil && linked >= space {
		err = s.noSpace(did, linked, 0, space)
	}
	return err
}

// link gives a verified blob to whoever uploaded it. One for which there is no space is given up with its upload.
func (s *Server) link(ctx context.Context, u ledger.Upload) error {
	space := s.space(u.DID)
	err := s.ledger.CompleteUpload(ctx, u, space, s.now())
	var over *ledger.OverQuota
	if errors.As(err, &over) {
		s.makeSpace(ctx, u.DID)
		err = s.ledger.CompleteUpload(ctx, u, space, s.now())
	}
	if errors.As(err, &over) {
		s.metrics.uploads.WithLabelValues("refused").Inc()
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
		"%s has %s of blobs in this hold, named by manifests or not, and no more than %s are kept; push the manifests that need them, or try again in an hour: the others are removed then.",
		did, humanize.IBytes(uint64(linked)), humanize.IBytes(uint64(space))).With("totalSize", linked).With("needed", needed).With("limit", space)
}

// makeSpace does for one user what sweeps do, but for blobs that were used within spaceAfter only.
func (s *Server) makeSpace(ctx context.Context, did syntax.DID) {
	unlock := s.spaceLocks.lock(did.String())
	defer unlock()
	now := s.now()
	if last, ok := s.spaced.Get(did); ok && now.Sub(last) < spaceEvery {
		return
	}
	s.spaced.Add(did, now)
	ctx, cancel := context.WithTimeout(ctx, spaceTime)
	defer cancel()
	if err := s.releaseOf(ctx, did, now.Add(-spaceAfter)); err != nil {
		s.log.WarnContext(ctx, "making space for a user", "did", did, "error", err)
	}
}

// releaseOf takes from a user what was not used since the time and no manifest needs. A manifest that was reserved
// before and is not at the user's PDS does not come any more.
func (s *Server) releaseOf(ctx context.Context, did syntax.DID, since time.Time) error {
	dead, err := s.ledger.DeadManifests(ctx, did, since, since)
	if err != nil {
		return err
	}
	unnamed, err := s.ledger.UnnamedBlobs(ctx, did, since)
	if err != nil || len(dead)+len(unnamed) == 0 {
		return err
	}
	var manifests, blobs []digest.Digest
	for _, m := range dead {
		manifests = append(manifests, m.Manifest)
	}
	for _, u := range unnamed {
		blobs = append(blobs, u.Digest)
	}
	return s.releaseUnused(ctx, did, manifests, blobs, since, since)
}
