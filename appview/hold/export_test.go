package hold

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/storage"
)

// WrapDriver lets a test put faults between the hold and its storage. The background work, which reads the driver, ends.
func (s *Server) WrapDriver(wrap func(storage.Driver) storage.Driver) {
	s.Quiet()
	s.driver = wrap(s.driver)
}

// Quiet ends the background work: what a test does not call does not happen.
func (s *Server) Quiet() {
	s.stop()
	s.done.Wait()
}

// Stored is the size of a blob in the storage, whoever may read it.
func (s *Server) Stored(ctx context.Context, d digest.Digest) (int64, error) {
	return s.driver.Stat(ctx, d)
}

// CompleteInStorage does what a completion does first, as when the hold is killed right after it.
func (s *Server) CompleteInStorage(ctx context.Context, id string, d digest.Digest, parts ...storage.Part) error {
	if err := s.ledger.Completing(ctx, d); err != nil {
		return err
	}
	_, err := s.driver.Complete(ctx, id, d, parts)
	return err
}

// WritePulls writes the pull counts as the interval does.
func (s *Server) WritePulls(ctx context.Context) error { return s.writePulls(ctx) }

// Methods are the io.atcr.* methods that are served: queries and procedures.
func (s *Server) Methods() (queries, procedures []string) {
	return slices.Collect(maps.Keys(s.queries())), slices.Collect(maps.Keys(s.procedures()))
}

// WaitForRemovals is how long the removal of a blob is waited for.
func (s *Server) WaitForRemovals(d time.Duration) { s.removeTime = d }

// WaitForCompletions is how long the completion of an upload may take.
func (s *Server) WaitForCompletions(d time.Duration) { s.completeTime = d }

// LimitReading limits how long one user's PDS is read, and how many bytes of records.
func (s *Server) LimitReading(d time.Duration, bytes int) { s.reader.time, s.reader.bytes = d, bytes }

// KeptOf is what is kept of what a DID's manifests name: of which, and how many bytes.
func (s *Server) KeptOf(ctx context.Context, did syntax.DID) ([]digest.Digest, int, error) {
	return s.ledger.ReadManifests(ctx, did)
}

// Scanning has a look at all records go on until end is called.
func (s *Server) Scanning() (end func()) {
	s.scans <- struct{}{}
	return func() { <-s.scans }
}

// Scanned says whether a request of the DID looks at all records, or waits for it.
func (s *Server) Scanned(did syntax.DID) bool {
	unlock, ok := s.scanLocks.tryLock(did.String())
	if ok {
		unlock()
	}
	return !ok
}
