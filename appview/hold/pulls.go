package hold

import (
	"context"
	"net/http"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/hold/xrpc"
)

// maxPulls is how many pulls one notification of a trusted AppView may tell of.
const maxPulls = 1000

// pulled counts pulls that an account tells of for itself, one an hour of each repository, or a trusted AppView for its
// readers. That is all that the trust gives. A DID without a PDS is no account: anybody can make any number of them.
func (s *Server) pulled(w http.ResponseWriter, r *http.Request, caller syntax.DID, in notification) error {
	n := int64(1)
	if s.trustsAppView(caller) {
		n = min(max(in.Count, 1), maxPulls)
	} else {
		account, err := s.tokens.directory.isAccount(r.Context(), caller)
		if err != nil {
			return err
		}
		if !account {
			return xrpc.Errorf(http.StatusForbidden, "Forbidden",
				"%s is not an AppView that this hold trusts; its operator can add it to HOLD_APPVIEW_DIDS.", caller)
		}
		if !s.roster.get().Public && !s.roster.may(caller, blobRead) {
			return xrpc.Errorf(http.StatusForbidden, "Forbidden",
				"%s has no %s permission in this hold; ask its captain %s.", caller, blobRead, s.roster.get().Owner)
		}
	}
	counted, err := s.countPulls(r.Context(), repository{in.UserDID, in.Repository}, caller, n)
	if err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"success": true, "operation": operationPull, "statsUpdated": counted})
	return nil
}

func (s *Server) trustsAppView(did syntax.DID) bool {
	return slices.ContainsFunc(s.cfg.AppViewDIDs, func(trusted string) bool { return canonical(syntax.DID(trusted)) == did })
}

// isAccount says whether a DID that has just been verified has a PDS.
func (d *directory) isAccount(ctx context.Context, did syntax.DID) (bool, error) {
	id, err := d.ids.ResolveDID(ctx, did)
	if err != nil {
		return false, err
	}
	return id.PDSEndpoint != "", nil
}
