package records

import (
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// CollectionLegacyHold was how a user's own hold was found before holds had repositories.
const CollectionLegacyHold = "io.atcr.hold"

// ParseLegacyHold reads the DID of the hold that a legacy io.atcr.hold record in the repository of owner names by URL.
// Its lexicon was withdrawn: it is read, and never written.
func ParseLegacyHold(owner syntax.DID, raw []byte) (syntax.DID, error) {
	if err := checkType(raw, CollectionLegacyHold); err != nil {
		return "", err
	}
	var in struct {
		Endpoint string `json:"endpoint"`
		Owner    string `json:"owner"`
	}
	if err := lenient(raw, &in); err != nil {
		return "", fmt.Errorf("%s: %w", CollectionLegacyHold, err)
	}
	if in.Owner != "" && in.Owner != string(owner) {
		return "", fmt.Errorf("%s: the hold belongs to %.80q", CollectionLegacyHold, in.Owner)
	}
	hold := HoldDID(in.Endpoint)
	if hold == "" {
		return "", fmt.Errorf("%s: endpoint %.80q is not the URL of a hold", CollectionLegacyHold, in.Endpoint)
	}
	return hold, nil
}
