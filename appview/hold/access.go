package hold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/pds"
)

// permission of a crew member.
type permission string

const (
	blobRead  permission = "blob:read"
	blobWrite permission = "blob:write" // implies blob:read
	crewAdmin permission = "crew:admin" // implies all
)

// roster is who may do what, as the captain and crew records say. It is kept in memory: only this process writes the
// repository, and reloads it after each write.
type roster struct {
	engine *pds.Engine
	did    syntax.DID

	mu      sync.RWMutex
	captain captain
	crew    map[syntax.DID]crewMember
}

// reload reads the captain record and all crew records.
func (r *roster) reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var c captain
	rec, err := r.engine.GetRecord(ctx, r.did, captainCollection, captainKey)
	switch {
	case errors.Is(err, pds.ErrRecordNotFound): // nobody may do anything
	case err != nil:
		return fmt.Errorf("read captain record: %w", err)
	default:
		if decode(rec.Value, &c) != nil {
			c = captain{} // an admin wrote it wrongly: as if there were none, until the next start writes it again
		}
	}
	crew := map[syntax.DID]crewMember{}
	for rec, err := range r.engine.Records(ctx, r.did, crewCollection) {
		if err != nil {
			return fmt.Errorf("read crew records: %w", err)
		}
		m, err := readMember(rec.Value)
		if err != nil {
			continue // a record that an admin wrote wrongly gives nobody anything
		}
		did := canonical(m.Member)
		m.Permissions = append(m.Permissions, crew[did].Permissions...) // two records of one member add up
		m.Tier, m.Plankowner = cmp.Or(m.Tier, crew[did].Tier), m.Plankowner || crew[did].Plankowner
		crew[did] = m
	}
	r.captain, r.crew = c, crew
	return nil
}

// get is the captain record.
func (r *roster) get() captain {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.captain
}

// member says whether a DID has a crew record.
func (r *roster) member(did syntax.DID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.crew[did]
	return ok
}

// memberOf is a DID's crew record, the zero value without one.
func (r *roster) memberOf(did syntax.DID) crewMember {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.crew[did]
}

// may says whether a DID has a permission, given or implied.
func (r *roster) may(did syntax.DID, p permission) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if did == "" {
		return false
	}
	if did == canonical(r.captain.Owner) || did == r.did { // r.did: who has the hold's key file
		return true
	}
	has := r.crew[did].Permissions
	return slices.Contains(has, crewAdmin) || slices.Contains(has, p) || (p == blobRead && slices.Contains(has, blobWrite))
}

func canonical(did syntax.DID) syntax.DID { return syntax.DID(diddoc.Canonical(did.String())) }

// need answers with the caller of a method, who must have the permission.
func (s *Server) need(r *http.Request, method string, p permission) (syntax.DID, error) {
	did, err := s.tokens.caller(r, method)
	if err != nil {
		return "", err
	}
	if !s.roster.may(did, p) {
		return "", xrpc.Errorf(http.StatusForbidden, "Forbidden",
			"%s has no %s permission in this hold; ask its captain %s to add it to the crew.", did, p, s.roster.get().Owner)
	}
	return did, nil
}

// mayRead checks that a request may read blobs: anybody on a public hold, else captain and crew.
func (s *Server) mayRead(r *http.Request, method string) error {
	if s.roster.get().Public {
		return nil
	}
	_, err := s.need(r, method, blobRead)
	return err
}
