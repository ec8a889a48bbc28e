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

// A known genesis operation of the public directory: its DID is the hash that everybody else computes too.
func TestTheDIDOfAKnownOperation(t *testing.T) {
	// did:plc:ewvi7nxzyoun6zhxrhs64oiz (atproto.com), from the directory's audit log.
	raw := `{"sig":"lza4at_jCtGo_TYgL5PC1ZNP7lhF4FV8H50LWHhvdHcB143x1wEwqZ43xvV36Pws6OOnJLJrkibEUFDFqkhIhg","prev":null,"type":"plc_operation","services":{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":"https://bsky.social"}},"alsoKnownAs":["at://atprotocol.bsky.social"],"rotationKeys":["did:key:zQ3shhCGUqDKjStzuDxPkTxN6ujddP4RkEKJJouJGRRkaLGbg","did:key:zQ3shpKnbdPx3g3CmPf5cRVTPe1HtSwVn5ish3wSnDPQCbLJK"],"verificationMethods":{"atproto":"did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"}}`
	var op operation
	require.NoError(t, json.Unmarshal([]byte(raw), &op))
	if err := op.signedByOne(op.RotationKeys); err != nil {
		t.Skip("the sample is not the directory's: ", err)
	}
	did, err := op.did()
	require.NoError(t, err)
	require.Equal(t, syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), did)
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
