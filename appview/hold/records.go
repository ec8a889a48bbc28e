package hold

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Collections of the hold's repository.
const (
	captainCollection = syntax.NSID("io.atcr.hold.captain")
	crewCollection    = syntax.NSID("io.atcr.hold.crew")
	layerCollection   = syntax.NSID("io.atcr.hold.layer")
	statsCollection   = syntax.NSID("io.atcr.hold.stats")
)

// captainKey is the record key of the only captain record.
const captainKey = syntax.RecordKey("self")

// captain is what io.atcr.hold.captain decides. Booleans that early records lack read as false.
type captain struct {
	Owner        syntax.DID `json:"owner"`
	Public       bool       `json:"public"`
	AllowAllCrew bool       `json:"allowAllCrew"`
}

// crewMember is io.atcr.hold.crew.
type crewMember struct {
	Member      syntax.DID   `json:"member"`
	Role        string       `json:"role"`
	Permissions []permission `json:"permissions"`
	AddedAt     string       `json:"addedAt"`
	Tier        string       `json:"tier,omitempty"`       // of quota.go; empty: the tier of newcomers
	Plankowner  bool         `json:"plankowner,omitempty"` // aboard from the beginning: another tier than newcomers; ours
}

// readMember reads a crew record. The first holds called the member did.
func readMember(value map[string]any) (m crewMember, err error) {
	err = decode(value, &m)
	if did, ok := value["did"].(string); ok && m.Member == "" {
		m.Member = syntax.DID(did)
	}
	return m, err
}

// layer is io.atcr.hold.layer: one for each (manifest, layer).
type layer struct {
	Digest    string       `json:"digest"`
	Size      int64        `json:"size"`
	MediaType string       `json:"mediaType"`
	Manifest  syntax.ATURI `json:"manifest"`
	UserDID   syntax.DID   `json:"userDid"`
	CreatedAt string       `json:"createdAt"`
}

// stats is io.atcr.hold.stats: one for each (owner, repository).
type stats struct {
	OwnerDID   syntax.DID `json:"ownerDid"`
	Repository string     `json:"repository"`
	PullCount  int64      `json:"pullCount"`
	LastPull   string     `json:"lastPull,omitempty"`
	PushCount  int64      `json:"pushCount"`
	LastPush   string     `json:"lastPush,omitempty"`
	UpdatedAt  string     `json:"updatedAt"`
}

// datetime writes a time as records have it.
func datetime(t time.Time) string {
	return syntax.Datetime(t.UTC().Format(syntax.AtprotoDatetimeLayout)).String()
}

// crewKey is the record key that we give to a member's record. Other holds choose others, so readers match on the
// member. DIDs may hold a percent sign, which record keys may not; no DID holds a tilde.
func crewKey(member syntax.DID) syntax.RecordKey {
	return syntax.RecordKey(strings.ReplaceAll(member.String(), "%", "~"))
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// statsKey is the record key of a repository's statistics.
func statsKey(owner syntax.DID, repository string) syntax.RecordKey {
	sum := sha256.Sum256([]byte(owner.String() + "/" + repository))
	return syntax.RecordKey(lowerBase32.EncodeToString(sum[:16]))
}

// decode reads a record value into one of the types above.
func decode(value map[string]any, into any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	return nil
}
