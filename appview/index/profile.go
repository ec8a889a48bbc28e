package index

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/records"
)

// ErrNoHold says that a user has opted out of default holds, or that the server has none.
var ErrNoHold = errors.New("no hold to push to")

// profileTTL is how long a user's choice of hold is remembered.
const profileTTL = 30 * time.Second

type chosenHold struct {
	did     syntax.DID
	expires time.Time
}

// PushHold is the hold that a user's pushes go to: the profile's defaultHold, else the user's own hold by the legacy
// io.atcr.hold record, else fallback.
func (m *Mirror) PushHold(ctx context.Context, did, fallback syntax.DID) (syntax.DID, error) {
	if c, ok := m.chosen.Get(did); ok && m.Now().Before(c.expires) && c.did != "" {
		return c.did, nil
	}
	hold, err := m.pushHold(ctx, did, fallback)
	if err != nil {
		return "", err
	}
	if hold == "" {
		return "", ErrNoHold
	}
	m.chosen.Add(did, chosenHold{hold, m.Now().Add(profileTTL)})
	return hold, nil
}

func (m *Mirror) pushHold(ctx context.Context, did, fallback syntax.DID) (syntax.DID, error) {
	r, err := m.PDS.GetRecord(ctx, did, CollectionProfile, records.ProfileRKey)
	if err == nil {
		p, err := records.ParseProfile(r.Value)
		switch {
		case err != nil: // unreadable: as if there were none
		case p.DefaultHold != "":
			return p.DefaultHold, nil
		case p.OptedOut:
			return "", nil
		}
	} else if !errors.Is(err, atproto.ErrRecordNotFound) {
		return "", err
	}
	own, err := m.legacyHold(ctx, did)
	if err != nil || own != "" {
		return own, err
	}
	return fallback, nil
}

// legacyHold is the user's own hold by an io.atcr.hold record; empty when there is none.
func (m *Mirror) legacyHold(ctx context.Context, did syntax.DID) (syntax.DID, error) {
	list, _, err := m.PDS.ListRecords(ctx, did, records.CollectionLegacyHold, "", 10, false)
	if err != nil {
		return "", err
	}
	for _, r := range list {
		if own, err := records.ParseLegacyHold(did, r.Value); err == nil {
			return own, nil
		}
	}
	return "", nil
}

// EnsureProfile creates the user's profile, unless there is one, with the hold that pushes would go to without: the
// user's own by a legacy record, else defaultHold. It is called at the first login or push; what a user has set is never
// touched.
func (m *Mirror) EnsureProfile(ctx context.Context, did, defaultHold syntax.DID) error {
	if _, ok := m.profiled.Get(did); ok {
		return nil
	}
	_, err := m.PDS.GetRecord(ctx, did, CollectionProfile, records.ProfileRKey)
	if errors.Is(err, atproto.ErrRecordNotFound) {
		err = m.createProfile(ctx, did, defaultHold)
	}
	if err == nil {
		m.profiled.Add(did, struct{}{})
	}
	return err
}

func (m *Mirror) createProfile(ctx context.Context, did, hold syntax.DID) error {
	own, err := m.legacyHold(ctx, did)
	if err != nil {
		return err
	}
	if own != "" {
		hold = own
	}
	now := records.Time{Time: m.Now()}
	_, err = m.PDS.ApplyWrites(ctx, did, []atproto.Write{{Action: atproto.Create, Collection: CollectionProfile,
		RKey: records.ProfileRKey, Value: records.Profile{DefaultHold: hold, CreatedAt: now, UpdatedAt: now}}}, "")
	if movedOn(err) {
		return nil // somebody else made it at the same time
	}
	return err
}
