package hold

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
)

const (
	// measureEvery is how long what the storage said of a user's uploads in progress is believed.
	measureEvery  = 10 * time.Second
	measureTime   = 10 * time.Second // how long it may take to say
	measureAtOnce = 4
)

// roomForParts refuses whoever has parts of all the bytes that they may have in storage to which parts go past the hold.
// A signed URL does not say how many bytes may come, so what came is looked at before another one is handed out.
func (s *Server) roomForParts(ctx context.Context, did syntax.DID) error {
	sizer, past := s.driver.(storage.Sizer)
	most := s.space(did)
	if !past || most == 0 {
		return nil
	}
	if s.arriving.look(did, s.now()) {
		if err := s.measure(ctx, sizer, did); err != nil {
			s.arriving.unlook(did)
			return xrpc.Errorf(http.StatusServiceUnavailable, "StorageUnavailable",
				"The hold's storage does not say what has come of your uploads; try again.").Because(err)
		}
	}
	if s.arriving.of(did) < most {
		return nil
	}
	s.metrics.refusals.Inc()
	return s.tooMuchInProgress(did, most)
}

// measure asks the storage for the parts of all uploads in progress of a user.
func (s *Server) measure(ctx context.Context, sizer storage.Sizer, did syntax.DID) error {
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	ids, err := s.ledger.OpenUploads(ctx, did)
	if err != nil {
		return err
	}
	asks, asking := errgroup.WithContext(ctx)
	asks.SetLimit(measureAtOnce)
	for _, id := range ids {
		asks.Go(func() error {
			n, err := sizer.PartBytes(asking, id)
			if err != nil {
				return err
			}
			s.arriving.set(id, did, n)
			if _, err = s.ledger.Uploader(asking, id); errors.Is(err, ledger.ErrNotFound) { // it has ended meanwhile
				s.arriving.forget(id)
				err = nil
			}
			return err
		})
	}
	return asks.Wait()
}

// sweepOversized ends uploads in progress of users whose parts are more than all that they may have: the largest first,
// until the others fit.
func (s *Server) sweepOversized(ctx context.Context) error {
	sizer, past := s.driver.(storage.Sizer)
	if !past || len(s.tiers.ranked) == 0 {
		return nil
	}
	users, err := s.ledger.Uploaders(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, did := range users {
		most := s.space(did)
		if most == 0 {
			continue
		}
		if err := s.measure(ctx, sizer, did); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, id := range s.arriving.largestFirst(did) {
			if s.arriving.of(did) <= most {
				break
			}
			unlock, ok := s.uploadLocks.tryLock(id)
			if !ok {
				continue // it completes right now
			}
			err := s.abandon(ctx, id)
			unlock()
			if err != nil {
				failed = errors.Join(failed, err)
				break
			}
			s.metrics.uploads.WithLabelValues("refused").Inc()
			s.log.WarnContext(ctx, "an upload in progress was ended: its user has more bytes in progress than fit", "did", did, "limit", most)
		}
	}
	return failed
}
