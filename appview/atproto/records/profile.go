package records

import "fmt"

// ProfileRKey is the only key of a profile.
const ProfileRKey = "self"

// Profile is io.atcr.sailor.profile: what a user wants of registries.
type Profile struct {
	DefaultHold        string // DID; empty: none named (old records held a URL, which reads as its did:web)
	OptedOut           bool   // defaultHold is null: the user opted out of defaults
	AutoRemoveUntagged bool
	OCIClient          string
	RegistryDomain     string
	CreatedAt          Time
	UpdatedAt          Time
	Extra              Extra
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
		out.DefaultHold = &p.DefaultHold
	}
	if !p.UpdatedAt.IsZero() {
		out.UpdatedAt = &p.UpdatedAt
	}
	extra := p.Extra
	if p.OptedOut && p.DefaultHold == "" {
		extra = Extra{"defaultHold": []byte("null")}
		for k, v := range p.Extra {
			extra[k] = v
		}
	}
	return join(out, extra)
}

// ParseProfile reads a record.
func ParseProfile(raw []byte) (*Profile, error) {
	if err := checkType(raw, CollectionProfile); err != nil {
		return nil, err
	}
	var in profileJSON
	extra, err := split(raw, &in, "$type", "autoRemoveUntagged", "ociClient", "registryDomain", "createdAt", "updatedAt")
	if err != nil {
		return nil, fmt.Errorf("%s: fields of an unexpected type", CollectionProfile)
	}
	p := &Profile{
		AutoRemoveUntagged: in.AutoRemoveUntagged, OCIClient: in.OCIClient, RegistryDomain: in.RegistryDomain, CreatedAt: in.CreatedAt,
	}
	if v, named := extra["defaultHold"]; named {
		p.OptedOut = string(v) == "null"
		delete(extra, "defaultHold")
	}
	if in.DefaultHold != nil {
		p.DefaultHold = holdDID(*in.DefaultHold)
	}
	if in.UpdatedAt != nil {
		p.UpdatedAt = *in.UpdatedAt
	}
	if len(extra) > 0 {
		p.Extra = extra
	}
	return p, nil
}
