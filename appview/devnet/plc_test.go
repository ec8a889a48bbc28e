package devnet

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/plc"
)

func newKey(t *testing.T) (atcrypto.PrivateKey, string) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	pub, err := key.PublicKey()
	require.NoError(t, err)
	return key, pub.DIDKey()
}

func submit(t *testing.T, n *Net, did syntax.DID, op plc.Operation) int {
	t.Helper()
	raw, err := json.Marshal(op)
	require.NoError(t, err)
	res, err := http.Post(n.URL()+"/"+string(did), "application/json", bytes.NewReader(raw))
	require.NoError(t, err)
	defer res.Body.Close()
	return res.StatusCode
}

func TestTheDirectoryTakesOnlyWhatFollows(t *testing.T) {
	n, err := Start(t.Context(), Config{})
	require.NoError(t, err)
	defer n.Close()
	key, rotation := newKey(t)
	_, signing := newKey(t)
	stranger, _ := newKey(t)
	genesis := plc.Operation{
		Type: plc.TypeOperation, RotationKeys: []string{rotation}, VerificationMethods: map[string]string{"atproto": signing},
		AlsoKnownAs: []string{"at://dave.test"}, Services: map[string]plc.Service{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: n.URL()}},
	}
	forged := genesis
	require.NoError(t, forged.Sign(stranger))
	forgedDID, err := forged.DID()
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, submit(t, n, forgedDID, forged), "signed by a stranger")

	require.NoError(t, genesis.Sign(key))
	did, err := genesis.DID()
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, submit(t, n, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", genesis), "a DID that is not the hash")
	require.Equal(t, http.StatusOK, submit(t, n, did, genesis))

	update := genesis
	update.AlsoKnownAs, update.Sig = []string{"at://dave2.test"}, ""
	require.NoError(t, update.Sign(key))
	require.Equal(t, http.StatusBadRequest, submit(t, n, did, update), "no prev")
	last, err := genesis.CID()
	require.NoError(t, err)
	update.Prev, update.Sig = &last, ""
	require.NoError(t, update.Sign(stranger))
	require.Equal(t, http.StatusBadRequest, submit(t, n, did, update), "signed by a stranger")
	require.NoError(t, update.Sign(key))
	require.Equal(t, http.StatusOK, submit(t, n, did, update))
	got, _, err := n.plc.latest(t.Context(), did)
	require.NoError(t, err)
	require.Equal(t, []string{"at://dave2.test"}, got.AlsoKnownAs)
}
