package plc

import (
	"encoding/json"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"
)

// A genesis operation made by the reference PDS (@did-plc/lib): its signature and DID are what everybody else computes too.
func TestTheDIDOfAnOperationMadeElsewhere(t *testing.T) {
	raw := `{"type":"plc_operation","verificationMethods":{"atproto":"did:key:zQ3shRzm74xW74e1M9oRqA4egRXwRandac6gAW4ro59SFeSuM"},` +
		`"rotationKeys":["did:key:zQ3shgLKycQSnSQnNLciBM2VWoE2Dn1GfQC8KBEXgMRceqdUV"],"alsoKnownAs":["at://contractor.test"],` +
		`"services":{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":"http://localhost:12583"}},"prev":null,` +
		`"sig":"U80mLPPMUzu4u4OLWv3OrdLDJNQrytR7tnOqboqgyJN0SOqxvM2vCwlwZ51BlJHdpZxa_2ezfDuu3udM5BUGiQ"}`
	var op Operation
	require.NoError(t, json.Unmarshal([]byte(raw), &op))
	require.NoError(t, op.SignedByOne(op.RotationKeys))
	did, err := op.DID()
	require.NoError(t, err)
	require.Equal(t, syntax.DID("did:plc:7zpdnur6mdxwzajzk6cdut2n"), did)
}
