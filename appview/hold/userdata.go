package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/pds"
)

// recordExport is one record in an export.
type recordExport struct {
	URI   syntax.ATURI   `json:"uri"`
	CID   string         `json:"cid"`
	Value map[string]any `json:"value"`
}

// userData is everything that the hold has of one user.
type userData struct {
	crew   []pds.Record // usually one
	layers []pds.Record
	stats  []pds.Record
	blobs  []ledger.Link
}

// scanner lets one request at a time of a DID make the hold look at all records: anybody may, whatever they have here. Error: TooManyRequests, status 429.
func (s *Server) scanner(w http.ResponseWriter, did syntax.DID) (end func(), err error) {
	end, ok := s.scanLocks.tryLock(did.String())
	if !ok {
		w.Header().Set("Retry-After", "10")
		return nil, xrpc.Errorf(http.StatusTooManyRequests, "TooManyRequests", "The data of %s is being exported or deleted already; try again when that has ended.", did)
	}
	return end, nil
}

// dataOf collects what the hold has of a DID. It looks at all records, for one caller at a time: those that were written past
// the hold, or by an early one, are in no index.
func (s *Server) dataOf(ctx context.Context, did syntax.DID) (all userData, err error) {
	select {
	case s.scans <- struct{}{}:
		defer func() { <-s.scans }()
	case <-ctx.Done():
		return all, ctx.Err()
	}
	for _, kind := range []struct {
		collection syntax.NSID
		owner      func(value map[string]any) syntax.DID
		found      *[]pds.Record
	}{
		{crewCollection, func(value map[string]any) syntax.DID { m, _ := readMember(value); return m.Member }, &all.crew},
		{layerCollection, func(value map[string]any) syntax.DID { return didIn(value, "userDid") }, &all.layers},
		{statsCollection, func(value map[string]any) syntax.DID { return didIn(value, "ownerDid") }, &all.stats},
	} {
		for rec, err := range s.engine.Records(ctx, s.self.did, kind.collection) {
			if err != nil {
				return all, fmt.Errorf("read %s records: %w", kind.collection, err)
			}
			if canonical(kind.owner(rec.Value)) == did {
				*kind.found = append(*kind.found, rec)
			}
		}
	}
	all.blobs, err = s.ledger.LinksOf(ctx, did)
	return all, err
}

func didIn(value map[string]any, field string) syntax.DID {
	did, _ := value[field].(string)
	return syntax.DID(did)
}

// exportUserData answers io.atcr.hold.exportUserData: the caller's own data. blobs is an extension of the lexicon: what
// the caller may read from the storage, layers and configs.
func (s *Server) exportUserData(w http.ResponseWriter, r *http.Request) error {
	did, err := s.tokens.caller(r, "io.atcr.hold.exportUserData")
	if err != nil {
		return err
	}
	end, err := s.scanner(w, did)
	if err != nil {
		return err
	}
	defer end()
	all, err := s.dataOf(r.Context(), did)
	if err != nil {
		return err
	}
	type blob struct {
		Digest string `json:"digest"`
		Size   int64  `json:"size"`
	}
	blobs := []blob{}
	for _, b := range all.blobs {
		blobs = append(blobs, blob{b.Digest.String(), b.Size})
	}
	out := map[string]any{
		"exportedAt": datetime(s.now()), "holdDid": s.self.did, "userDid": did, "isCaptain": did == canonical(s.roster.get().Owner),
		"layerRecords": exports(all.layers), "statsRecords": exports(all.stats), "blueskyPosts": []any{}, "blobs": blobs,
	}
	if len(all.crew) > 0 {
		out["crewRecord"] = exports(all.crew)[0]
	}
	w.Header().Set("Cache-Control", "no-store")
	xrpc.WriteJSON(w, http.StatusOK, out)
	return nil
}

func exports(records []pds.Record) []recordExport {
	out := []recordExport{}
	for _, r := range records {
		out = append(out, recordExport{r.URI, r.CID.String(), r.Value})
	}
	return out
}

// deleteUserData answers io.atcr.hold.deleteUserData: it deletes the caller's crew, layer and stats records and takes
// its blobs from it; the bytes of those that nobody else has go too. The captain's crew record stays. Repeated, or
// after a crash in between, it deletes what is left.
//
// The records in the caller's own PDS stay, and name blobs that are gone.
func (s *Server) deleteUserData(w http.ResponseWriter, r *http.Request) error {
	did, err := s.tokens.caller(r, "io.atcr.hold.deleteUserData")
	if err != nil {
		return err
	}
	end, err := s.scanner(w, did)
	if err != nil {
		return err
	}
	defer end()
	unlock := s.userLocks.lock(did.String())
	defer unlock()
	all, err := s.dataOf(r.Context(), did)
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(r.Context()) // half of it is of no use to anybody
	// Access first: who comes back pushes as a new member.
	crewDeleted := false
	if did != canonical(s.roster.get().Owner) {
		if err := s.deleteRecords(ctx, all.crew); err != nil {
			return err
		}
		if err := s.roster.reload(ctx); err != nil {
			return err
		}
		crewDeleted = len(all.crew) > 0
	}
	s.statsMu.Lock()
	err = errors.Join(s.deleteRecords(ctx, all.layers), s.deleteRecords(ctx, all.stats))
	s.statsMu.Unlock()
	if err != nil {
		return err
	}
	if err := s.ledger.ForgetUser(ctx, did); err != nil {
		return err
	}
	for _, b := range all.blobs {
		s.collect(ctx, b.Digest)
	}
	s.log.InfoContext(ctx, "the data of a user was deleted", "did", did, "layers", len(all.layers), "blobs", len(all.blobs))
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{
		"success": true, "crewDeleted": crewDeleted, "layersDeleted": len(all.layers), "statsDeleted": len(all.stats),
	})
	return nil
}

// deleteRecords deletes records, in commits of as many as one may have.
func (s *Server) deleteRecords(ctx context.Context, records []pds.Record) error {
	for len(records) > 0 {
		n := min(len(records), pds.MaxWrites)
		var writes []pds.Write
		for _, r := range records[:n] {
			writes = append(writes, pds.Write{Op: pds.Delete, Collection: r.Collection, RKey: r.RKey})
		}
		if _, _, err := s.engine.ApplyWrites(ctx, s.self.did, writes, cid.Undef); err != nil {
			return fmt.Errorf("delete records of a user: %w", err)
		}
		records = records[n:]
	}
	return nil
}
