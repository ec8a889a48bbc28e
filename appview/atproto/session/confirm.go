package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/store"
)

// confirmEvery is how long the word of a PDS that a session lives is taken for true. Access tokens say nothing: they
// are good for hours after their app password was revoked.
const confirmEvery = 5 * time.Minute

// Confirm says whether the app password behind a session that [Manager.Check] named is still good, by refreshing the
// session unless that was done in the last five minutes. It fails with [atproto.ErrUnauthorized] (revoked, or the
// session ended), [*atproto.TooManyRequests] or [atproto.ErrUnavailable]. While the PDS is down, its last word counts
// for as long as in Check; while it limits us, for as long as the access token lives.
func (m *Manager) Confirm(ctx context.Context, who *atproto.Identity, credential string) error {
	row, err := m.store.SessionByCredential(ctx, credential)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("session of %s: %w: it has ended", who.DID, atproto.ErrUnauthorized)
	case err != nil:
		return err
	case row.DID != string(who.DID):
		return fmt.Errorf("session of %s: %w: it is another account's", who.DID, atproto.ErrUnauthorized)
	case row.PDS != who.PDSEndpoint:
		return fmt.Errorf("session of %s: %w: the account moved to another PDS", who.DID, atproto.ErrUnauthorized)
	}
	return m.confirm(ctx, row)
}

// confirm asks the PDS, unless it said so lately, or was found to be down lately.
func (m *Manager) confirm(ctx context.Context, row *store.PDSSession) error {
	if m.fresh(row) && (m.now().Before(row.UpdatedAt.Add(confirmEvery)) || m.limits.isDown(row.PDS)) {
		return nil
	}
	_, err := m.renew(ctx, row)
	var limited *atproto.TooManyRequests
	if errors.As(err, &limited) && m.fresh(row) {
		return nil // asked too often, not told no
	}
	if errors.Is(err, atproto.ErrUnavailable) && m.now().Before(row.ExpiresAt.Add(outageGrace)) {
		m.limits.markDown(row.PDS)
		m.log.WarnContext(ctx, "PDS is down; its user's session was good before and is accepted", "did", row.DID, "error", err)
		return nil
	}
	return err
}
