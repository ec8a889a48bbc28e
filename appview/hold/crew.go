package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/pds"
)

const roleOwner = "owner"

// bootstrap makes the hold's repository the first time, and syncs the settings to the captain record at each start.
// The owner is the first crew member.
func (s *Server) bootstrap(ctx context.Context) error {
	if err := s.openRepo(ctx); err != nil {
		return err
	}
	if err := s.syncCaptain(ctx); err != nil {
		return fmt.Errorf("captain record: %w", err)
	}
	if err := s.roster.reload(ctx); err != nil {
		return err
	}
	return s.syncOwner(ctx)
}

// openRepo makes the repository, or sees that its key is the one on disk.
func (s *Server) openRepo(ctx context.Context) error {
	has, err := s.engine.HasRepo(ctx, s.self.did)
	if err != nil {
		return fmt.Errorf("open the hold's repository: %w", err)
	}
	if !has {
		err := s.engine.CreateRepo(ctx, pds.NewRepo{DID: s.self.did, Key: s.self.key, Handle: s.self.handle})
		if err != nil {
			return fmt.Errorf("make the hold's repository: %w", err)
		}
		return nil
	}
	if err := s.engine.RotateKey(ctx, s.self.did, s.self.key); err != nil {
		return fmt.Errorf("sign the repository with the hold's key: %w", err)
	}
	return nil
}

// syncCaptain writes the settings into the captain record; fields that we do not know stay.
func (s *Server) syncCaptain(ctx context.Context) error {
	value := map[string]any{"enableBlueskyPosts": false, "deployedAt": datetime(s.now())}
	rec, err := s.engine.GetRecord(ctx, s.self.did, captainCollection, captainKey)
	if err != nil && !errors.Is(err, pds.ErrRecordNotFound) {
		return err
	}
	for k, v := range rec.Value {
		value[k] = v
	}
	value["owner"] = canonical(syntax.DID(s.cfg.Owner)).String()
	value["public"] = s.cfg.Public
	value["allowAllCrew"] = s.cfg.AllowAllCrew
	switch next := canonical(syntax.DID(s.cfg.Successor)); next {
	case "":
	case noSuccessor:
		delete(value, "successor")
	case s.self.did:
		return fmt.Errorf("%s: %s is this hold itself; name the one that takes its place", names.HoldSuccessor, next)
	default:
		value["successor"] = next.String()
	}
	if next, ok := value["successor"].(string); ok {
		s.log.InfoContext(ctx, "this hold has a successor: registries push there, and ask it first", "successor", next)
	}
	_, err = s.put(ctx, captainCollection, captainKey, value)
	return err
}

// syncOwner gives the owner a crew record, and takes the owner's role from whoever was it before.
func (s *Server) syncOwner(ctx context.Context) error {
	owner := canonical(syntax.DID(s.cfg.Owner))
	var gone []pds.Write
	for rec, err := range s.engine.Records(ctx, s.self.did, crewCollection) {
		if err != nil {
			return fmt.Errorf("read crew records: %w", err)
		}
		if m, err := readMember(rec.Value); err == nil && m.Role == roleOwner && canonical(m.Member) != owner {
			gone = append(gone, pds.Write{Op: pds.Delete, Collection: crewCollection, RKey: rec.RKey})
			s.log.WarnContext(ctx, "the hold has a new owner: the crew record of the old one is removed", "old", m.Member, "new", owner)
		}
	}
	if len(gone) > 0 {
		if _, _, err := s.engine.ApplyWrites(ctx, s.self.did, gone, cid.Undef); err != nil {
			return fmt.Errorf("remove the old owner's crew record: %w", err)
		}
	}
	if !s.roster.member(owner) {
		if _, err := s.addCrew(ctx, owner, roleOwner, []permission{blobRead, blobWrite, crewAdmin}); err != nil {
			return fmt.Errorf("owner's crew record: %w", err)
		}
	}
	return s.roster.reload(ctx)
}

// addCrew writes a crew record and lets it take effect.
func (s *Server) addCrew(ctx context.Context, member syntax.DID, role string, perms []permission) (pds.WriteResult, error) {
	value, err := pds.RecordOf(crewMember{Member: member, Role: role, Permissions: perms, AddedAt: datetime(s.now())})
	if err != nil {
		return pds.WriteResult{}, err
	}
	res, err := s.put(ctx, crewCollection, crewKey(member), value)
	if err != nil {
		return pds.WriteResult{}, err
	}
	return res, s.roster.reload(ctx)
}

// put creates or replaces one record.
func (s *Server) put(ctx context.Context, collection syntax.NSID, key syntax.RecordKey, value map[string]any) (pds.WriteResult, error) {
	res, _, err := s.engine.ApplyWrites(ctx, s.self.did,
		[]pds.Write{{Op: pds.Put, Collection: collection, RKey: key, Value: value}}, cid.Undef)
	if err != nil {
		return pds.WriteResult{}, err
	}
	return res[0], nil
}

// requestCrew answers io.atcr.hold.requestCrew: on a hold that takes everybody, any authenticated DID joins.
func (s *Server) requestCrew(w http.ResponseWriter, r *http.Request) error {
	did, err := s.tokens.caller(r, "io.atcr.hold.requestCrew")
	if err != nil {
		return err
	}
	var in struct {
		Role        string       `json:"role"`
		Permissions []permission `json:"permissions"`
	}
	if err := xrpc.ReadJSON(w, r, &in); err != nil {
		return err
	}
	role, perms, err := wanted(in.Role, in.Permissions)
	if err != nil {
		return err
	}
	s.crewMu.Lock() // two requests of one DID at once make one record
	defer s.crewMu.Unlock()
	captain := s.roster.get()
	owner := did == canonical(captain.Owner)
	switch {
	case s.roster.member(did):
		xrpc.WriteJSON(w, http.StatusOK, map[string]string{"status": "already_member", "message": "You are in the crew of this hold."})
		return nil
	case owner:
		role, perms = roleOwner, []permission{blobRead, blobWrite, crewAdmin}
	case !captain.AllowAllCrew:
		return xrpc.Errorf(http.StatusForbidden, "RegistrationDisabled",
			"This hold takes no crew by request; ask its captain %s to add %s.", captain.Owner, did)
	}
	res, err := s.addCrew(r.Context(), did, role, perms)
	if err != nil {
		return fmt.Errorf("add crew: %w", err)
	}
	s.log.InfoContext(r.Context(), "crew member joined", "did", did)
	xrpc.WriteJSON(w, http.StatusCreated, map[string]string{"status": "created", "uri": res.URI.String(), "cid": res.CID.String()})
	return nil
}

// wanted is the role and the permissions of a request, which nobody can raise to admin by asking.
func wanted(role string, perms []permission) (string, []permission, error) {
	switch role {
	case "":
		role = "member"
	case "member", "read", "write":
	default:
		return "", nil, xrpc.Errorf(http.StatusBadRequest, "InvalidRequest", "The role must be member, read or write; only the captain gives others.")
	}
	if len(perms) == 0 {
		perms = []permission{blobRead, blobWrite}
		if role == "read" {
			perms = perms[:1]
		}
	}
	seen := map[permission]bool{}
	var out []permission
	for _, p := range perms {
		if p != blobRead && p != blobWrite {
			return "", nil, xrpc.Errorf(http.StatusBadRequest, "InvalidRequest",
				"The permissions must be blob:read or blob:write; only the captain gives others.")
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return role, out, nil
}

const methodUpdateCrewTier = "io.atcr.hold.updateCrewTier"

// updateCrewTier answers io.atcr.hold.updateCrewTier: an AppView that this hold trusts, its captain or an admin gives a
// member a tier by its place in listTiers.
func (s *Server) updateCrewTier(w http.ResponseWriter, r *http.Request) error {
	caller, err := s.tokens.caller(r, methodUpdateCrewTier)
	if err != nil {
		return err
	}
	if !s.trustsAppView(caller) && !s.roster.may(caller, crewAdmin) {
		return xrpc.Errorf(http.StatusForbidden, "Forbidden", "%s may not give tiers in this hold; its captain %s, admins and the AppViews in HOLD_APPVIEW_DIDS may.",
			caller, s.roster.get().Owner)
	}
	var in struct {
		UserDID  syntax.DID `json:"userDid"`
		TierRank *int       `json:"tierRank"`
	}
	if err := xrpc.ReadJSON(w, r, &in); err != nil {
		return err
	}
	user, err := syntax.ParseDID(in.UserDID.String())
	if err != nil || in.TierRank == nil || *in.TierRank < 0 || *in.TierRank >= len(s.tiers.ranked) {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidRequest",
			"userDid and a tierRank below %d are needed; io.atcr.hold.listTiers has the tiers.", len(s.tiers.ranked))
	}
	name := s.tiers.ranked[*in.TierRank].Name
	if err := s.setTier(r.Context(), canonical(user), name); err != nil {
		return err
	}
	s.log.InfoContext(r.Context(), "crew member has a new tier", "did", user, "tier", name, "by", caller)
	xrpc.WriteJSON(w, http.StatusOK, map[string]string{"tierName": name})
	return nil
}

// setTier writes a tier into all crew records of a member, whose other fields stay.
func (s *Server) setTier(ctx context.Context, member syntax.DID, name string) error {
	s.crewMu.Lock()
	defer s.crewMu.Unlock()
	var writes []pds.Write
	for rec, err := range s.engine.Records(ctx, s.self.did, crewCollection) {
		if err != nil {
			return fmt.Errorf("read crew records: %w", err)
		}
		if m, err := readMember(rec.Value); err == nil && canonical(m.Member) == member {
			rec.Value["tier"] = name
			// Whoever is removed meanwhile is not put back.
			writes = append(writes, pds.Write{Op: pds.Update, Collection: crewCollection, RKey: rec.RKey, Value: rec.Value, Swap: &pds.SwapRecord{CID: rec.CID}})
		}
	}
	if len(writes) == 0 {
		return xrpc.Errorf(http.StatusNotFound, "UserNotFound", "%s is not in the crew of this hold; add it first.", member)
	}
	_, _, err := s.engine.ApplyWrites(ctx, s.self.did, writes, cid.Undef)
	if errors.Is(err, pds.ErrInvalidSwap) || errors.Is(err, pds.ErrRecordNotFound) {
		return xrpc.Errorf(http.StatusConflict, "InvalidSwap", "The crew record of %s changed just now; try again.", member)
	}
	if err != nil {
		return fmt.Errorf("write tier: %w", err)
	}
	return s.roster.reload(context.WithoutCancel(ctx))
}
