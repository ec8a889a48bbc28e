package peers_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/test/peers/referencepds"
)

type object = map[string]any

// holdUnderTest is a running hold.
type holdUnderTest struct {
	url string // where it listens
	did string
}

// startHold runs a hold of owner whose callers are looked up in the PDS's PLC directory. publicURL is what the hold
// believes to be its address, and so its DID; empty: where it listens.
func startHold(t *testing.T, pds *referencepds.PDS, owner, publicURL string) holdUnderTest {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	listening := "http://localhost:" + port
	if publicURL == "" {
		publicURL = listening
	}
	dir := t.TempDir()
	cfg, err := hold.LoadFrom(map[string]string{
		"HOLD_PUBLIC_URL": publicURL, "HOLD_OWNER": owner, "HOLD_PLC_URL": pds.PLCURL, "TEST_MODE": "true",
		"HOLD_DATABASE_DIR": filepath.Join(dir, "db"), "STORAGE_DRIVER": "filesystem", "STORAGE_ROOT_DIR": filepath.Join(dir, "blobs"),
	})
	require.NoError(t, err)
	h, err := hold.New(t.Context(), cfg, hold.Deps{})
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(h.Handler())
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections() // subscribers read for ever
		srv.Close()
		require.NoError(t, h.Close(t.Context()))
	})
	return holdUnderTest{listening, h.DID().String()}
}

// addCrew lets the hold's captain make a member, with a service token from the captain's PDS.
func (h holdUnderTest) addCrew(t *testing.T, pds *referencepds.PDS, captain, member string, permissions ...string) {
	t.Helper()
	a := pds.Account(t, captain)
	var session struct{ AccessJWT string }
	call(t, http.MethodPost, pds.URL+"/xrpc/com.atproto.server.createSession", "", object{"identifier": a.Handle, "password": a.AppPassword}, &session)
	var service struct{ Token string }
	call(t, http.MethodGet, pds.URL+"/xrpc/com.atproto.server.getServiceAuth?aud="+url.QueryEscape(h.did), session.AccessJWT, nil, &service)
	call(t, http.MethodPost, h.url+"/xrpc/com.atproto.repo.createRecord", service.Token, object{
		"repo": h.did, "collection": "io.atcr.hold.crew",
		"record": object{"$type": "io.atcr.hold.crew", "member": pds.Account(t, member).DID, "role": "member",
			"permissions": permissions, "addedAt": "2026-01-01T00:00:00.000Z"},
	}, nil)
}

// document is the hold's DID document, read as indigo reads it.
func (h holdUnderTest) document(t *testing.T) identity.Identity {
	t.Helper()
	var doc identity.DIDDocument
	call(t, http.MethodGet, h.url+"/.well-known/did.json", "", nil, &doc)
	return identity.ParseIdentity(&doc)
}

// call sends JSON and demands a 200 with JSON.
func call(t *testing.T, method, target, token string, in, out any) {
	t.Helper()
	raw, err := json.Marshal(in)
	require.NoError(t, err)
	body := io.Reader(http.NoBody)
	if in != nil {
		body = bytes.NewReader(raw)
	}
	answer := send(t, method, target, token, body)
	if out != nil {
		require.NoError(t, json.Unmarshal(answer, out), "%s", answer)
	}
}

// get demands a 200 and returns the body.
func get(t *testing.T, target string) []byte {
	t.Helper()
	return send(t, http.MethodGet, target, "", http.NoBody)
}

func send(t *testing.T, method, target, token string, body io.Reader) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	require.NoError(t, err)
	if body != http.NoBody {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s %s: %s", method, req.URL.Path, answer)
	return answer
}
