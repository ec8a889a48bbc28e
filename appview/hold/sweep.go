package hold

import (
	"context"
	"errors"
	"time"
)

// sweepLoop removes uploads without progress, and blobs of deleted manifests or of none, until the context ends.
func (s *Server) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(min(s.cfg.UploadTTL/4, 15*time.Minute))
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "sweeping idle uploads and deleted manifests", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readingTime is how long each step of one pass reads the PDSes of users.
const readingTime = 10 * time.Minute

// Sweep removes once what the hold removes by itself every quarter of an hour. What fails keeps nothing else from going.
func (s *Server) Sweep(ctx context.Context) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	err := errors.Join(s.sweep(ctx), s.sweepOversized(ctx), s.sweepStray(ctx))
	for _, reading := range []func(context.Context) error{s.sweepRestored, s.sweepDeleted, s.sweepUnnamed} {
		within, cancel := context.WithTimeout(ctx, readingTime) // PDSes that hang keep nothing else waiting for ever; the next pass asks others first
		err = errors.Join(err, reading(within))
		cancel()
	}
	return errors.Join(err, s.sweepUnowned(ctx))
}

// sweepUnowned removes the blobs that nobody has and that are there still: the storage failed to remove them, or the hold was
// killed before it did, or between the completion of a blob and the note whose it is.
func (s *Server) sweepUnowned(ctx context.Context) error {
	unowned, err := s.ledger.UnownedBlobs(ctx)
	if err != nil {
		return err
	}
	for _, d := range unowned {
		if err := s.collected(ctx, d); err != nil {
			return err // a storage that fails one fails them all
		}
	}
	return nil
}

// sweep removes every upload that was not touched within the TTL, and forgets the completed ones of that age.
func (s *Server) sweep(ctx context.Context) error {
	before := s.now().Add(-s.cfg.UploadTTL)
	for {
		idle, err := s.ledger.IdleUploads(ctx, before)
		if err != nil {
			return err
		}
		removed := 0
		for _, u := range idle {
			unlock, ok := s.uploadLocks.tryLock(u.ID)
			if !ok {
				continue // it completes right now
			}
			err := s.abandon(ctx, u.ID)
			unlock()
			if err != nil {
				// It goes to the end of the line: one that cannot be removed must not keep the others.
				return errors.Join(err, s.ledger.TouchUpload(ctx, u.ID, s.now()))
			}
			removed++
			if u.Digest == "" {
				s.metrics.uploads.WithLabelValues("expired").Inc()
				s.log.InfoContext(ctx, "an upload without progress expired", "did", u.DID)
			}
		}
		if removed == 0 {
			return nil
		}
	}
}

// sweepStray removes parts that belong to no upload: they were put by a URL that outlived an abort. And what a
// completion left behind that was killed.
func (s *Server) sweepStray(ctx context.Context) error {
	for id, err := range s.driver.Uploads(ctx) {
		if err != nil {
			return err
		}
		if err := s.removeStray(ctx, id); err != nil {
			return err
		}
	}
	_, err := s.driver.Tidy(ctx, s.now().Add(-s.cfg.UploadTTL))
	return err
}

func (s *Server) removeStray(ctx context.Context, id string) error {
	unlock, ok := s.uploadLocks.tryLock(id)
	if !ok {
		return nil
	}
	defer unlock()
	known, err := s.ledger.InProgress(ctx, id)
	if err != nil || known {
		return err
	}
	defer s.arriving.forget(id)
	return s.driver.Abort(ctx, id)
}
