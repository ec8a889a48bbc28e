package records

import (
	"fmt"
	"maps"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// ProfileRKey is the only key of a profile.
const ProfileRKey = "self"

// Profile is io.atcr.sailor.profile: what a user wants of registries.
type Profile struct {
	DefaultHold        syntax.DID // empty: none named (old records held a URL, which reads as its did:web)
	OptedOut           bool       // defaultHold is null: the user opted out of defaults
	AutoRemoveUntagged bool
	OCIClient          string
	RegistryDomain     string
	CreatedAt          Time
	UpdatedAt          Time
	Extra              Extra

	was *original
}

type profileJSON struct {
	Type               string  `json:"$type"`
	DefaultHold        *string `json:"defaultHold,omitempty"`
	AutoRemoveUntagged bool    `json:"autoRemoveUntagged,omitempty"`
	OCIClient          string  `json:"ociClient,omitempty"`
	RegistryDomain     string  `json:"registryDomain,omitempty"`
	CreatedAt          Time    `json:"createdAt"`
	UpdatedAt          *Time   `json:"updatedAt,omitempty"`
}

// MarshalJSON writes the record with its $type.
func (p Profile) MarshalJSON() ([]byte, error) {
	out := profileJSON{
		Type: CollectionProfile, AutoRemoveUntagged: p.AutoRemoveUntagged, OCIClient: p.OCIClient,
		RegistryDomain: p.RegistryDomain, CreatedAt: p.CreatedAt,
	}
	if p.DefaultHold != "" {
		hold := string(p.DefaultHold)
		out.DefaultHold = &hold
	}
	if !p.UpdatedAt.IsZero() {
		out.UpdatedAt = &p.UpdatedAt
	}
	extra := p.Extra
	if p.OptedOut && p.DefaultHold == "" {
		extra = Extra{"defaultHold": []byte("null")}
		maps.Copy(extra, p.Extra)
	}
	return join(out, extra, p.was)
}

// ParseProfile reads a record.
func ParseProfile(raw []byte) (*Profile, error) {
	if err := checkType(raw, CollectionProfile); err != nil {
		return nil, err
	}
	in, extra, was, err := split[profileJSON](raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CollectionProfile, err)
	}
	p := &Profile{
		AutoRemoveUntagged: in.AutoRemoveUntagged, OCIClient: in.OCIClient, RegistryDomain: in.RegistryDomain, CreatedAt: in.CreatedAt,
		Extra: extra, was: was,
	}
	fields, err := fieldsOf(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CollectionProfile, err)
	}
	p.OptedOut = string(fields["defaultHold"]) == "null"
	if in.DefaultHold != nil {
		p.DefaultHold = HoldDID(*in.DefaultHold)
	}
	if in.UpdatedAt != nil {
		p.UpdatedAt = *in.UpdatedAt
	}
	return p, nil
}
