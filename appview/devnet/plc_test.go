package devnet

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"
)

func newKey(t *testing.T) (atcrypto.PrivateKey, string) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	pub, err := key.PublicKey()
	require.NoError(t, err)
	return key, pub.DIDKey()
}

func submit(t *testing.T, n *Net, did syntax.DID, op operation) int {
	t.Helper()
	raw, err := json.Marshal(op)
	require.NoError(t, err)
	res, err := http.Post(n.URL()+"/"+string(did), "application/json", bytes.NewReader(raw))
	require.NoError(t, err)
	defer res.Body.Close()
	return res.StatusCode
}

// A genesis operation made by the reference PDS (@did-plc/lib): its signature and DID are what everybody else computes too.
func TestTheDIDOfAnOperationMadeElsewhere(t *testing.T) {
	raw := `{"type":"plc_operation","verificationMethods":{"atproto":"did:key:zQ3shRzm74xW74e1M9oRqA4egRXwRandac6gAW4ro59SFeSuM"},` +
		`"rotationKeys":["did:key:zQ3shgLKycQSnSQnNLciBM2VWoE2Dn1GfQC8KBEXgMRceqdUV"],"alsoKnownAs":["at://contractor.test"],` +
		`"services":{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":"http://localhost:12583"}},"prev":null,` +
		`"sig":"U80mLPPMUzu4u4OLWv3OrdLDJNQrytR7tnOqboqgyJN0SOqxvM2vCwlwZ51BlJHdpZxa_2ezfDuu3udM5BUGiQ"}`
	var op operation
	require.NoError(t, json.Unmarshal([]byte(raw), &op))
	require.NoError(t, op.signedByOne(op.RotationKeys))
	did, err := op.did()
	require.NoError(t, err)
	require.Equal(t, syntax.DID("did:plc:7zpdnur6mdxwzajzk6cdut2n"), did)
}

func TestTheDirectoryTakesOnlyWhatFollows(t *testing.T) {
	n, err := Start(t.Context(), Config{})
	require.NoError(t, err)
	defer n.Close()
	key, rotation := newKey(t)
	_, signing := newKey(t)
	stranger, _ := newKey(t)
	genesis := operation{
		Type: "plc_operation", RotationKeys: []string{rotation}, VerificationMethods: map[string]string{"atproto": signing},
		AlsoKnownAs: []string{"at://dave.test"}, Services: map[string]plcService{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: n.URL()}},
	}
	forged := genesis
	require.NoError(t, forged.sign(stranger))
	forgedDID, err := forged.did()
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, submit(t, n, forgedDID, forged), "signed by a stranger")

	require.NoError(t, genesis.sign(key))
	did, err := genesis.did()
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, submit(t, n, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", genesis), "a DID that is not the hash")
	require.Equal(t, http.StatusOK, submit(t, n, did, genesis))

	update := genesis
	update.AlsoKnownAs, update.Sig = []string{"at://dave2.test"}, ""
	require.NoError(t, update.sign(key))
	require.Equal(t, http.StatusBadRequest, submit(t, n, did, update), "no prev")
	last, err := genesis.cid()
	require.NoError(t, err)
	update.Prev, update.Sig = &last, ""
	require.NoError(t, update.sign(stranger))
	require.Equal(t, http.StatusBadRequest, submit(t, n, did, update), "signed by a stranger")
	require.NoError(t, update.sign(key))
	require.Equal(t, http.StatusOK, submit(t, n, did, update))
	got, _, err := n.plc.latest(t.Context(), did)
	require.NoError(t, err)
	require.Equal(t, []string{"at://dave2.test"}, got.AlsoKnownAs)
}
