package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/server"
	"atcr.io/operator/test/peers/referencepds"
)

type object = map[string]any

// holdUnderTest is a running hold.
type holdUnderTest struct {
	url  string // where it listens
	did  string
	stop func()
}

// startHold runs a hold of alice.test whose callers are looked up in the PDS's PLC directory. env is over the variables
// of this world: with another HOLD_PUBLIC_URL the hold has a DID that does not say where it listens.
func startHold(t *testing.T, pds *referencepds.PDS, env map[string]string) holdUnderTest {
	t.Helper()
	l, listening := listen(t)
	dir := t.TempDir()
	vars := map[string]string{
		names.HoldPublicURL: listening, names.HoldOwner: pds.Account(t, "alice.test").DID, names.HoldPLCURL: pds.PLCURL, names.TestMode: "true",
		names.HoldDatabaseDir: filepath.Join(dir, "db"), names.StorageDriver: "filesystem", names.StorageRootDir: filepath.Join(dir, "blobs"),
	}
	maps.Copy(vars, env)
	cfg, err := hold.LoadFrom(vars)
	require.NoError(t, err)
	h, err := hold.New(t.Context(), cfg, hold.Deps{Logger: logger()})
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(h.Handler())
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	stop := sync.OnceFunc(func() {
		srv.CloseClientConnections() // subscribers read for ever
		srv.Close()
		require.NoError(t, h.Close(context.WithoutCancel(t.Context())))
	})
	t.Cleanup(stop)
	return holdUnderTest{listening, h.DID().String(), stop}
}

// appView is a running AppView.
type appView struct {
	url, host string // host is what image references begin with
}

// startAppView runs an AppView on top of the PDS, with hold as its default.
func startAppView(t *testing.T, pds *referencepds.PDS, hold holdUnderTest) appView {
	t.Helper()
	api, address := listen(t)
	debug, _ := listen(t)
	dir := t.TempDir()
	cfg, err := config.Load([]string{
		names.HTTPAddr + "=" + api.Addr().String(), names.DebugAddr + "=" + debug.Addr().String(), names.BaseURL + "=" + address,
		names.DefaultHoldDID + "=" + hold.did, names.TestMode + "=true", names.PLCURL + "=" + pds.PLCURL, names.HandleResolverURL + "=" + pds.URL,
		names.AuthKeyPath + "=" + filepath.Join(dir, names.FileSigningKey), names.AuthCertPath + "=" + filepath.Join(dir, names.FileSigningCert),
		names.SealingKeyPath + "=" + filepath.Join(dir, names.FileSealingKey), names.DIDKeyPath + "=" + filepath.Join(dir, "did.key"),
		names.UIDatabasePath + "=" + filepath.Join(dir, "ui.db"),
	})
	require.NoError(t, err)
	srv, err := server.New(t.Context(), cfg, logger())
	require.NoError(t, err)
	serving, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(serving, api, debug) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-served)
		require.NoError(t, srv.Close())
	})
	return appView{address, strings.TrimPrefix(address, "http://")}
}

// listen on a free port.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return l, "http://localhost:" + port
}

// logger shows what the servers log when ATCR_TEST_LOG is set.
func logger() *slog.Logger {
	if os.Getenv("ATCR_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// token is a service token for the hold from an account's PDS.
func (h holdUnderTest) token(t *testing.T, pds *referencepds.PDS, handle string) string {
	t.Helper()
	session := login(t, pds.URL, handle, pds.Account(t, handle).AppPassword)
	var service struct{ Token string }
	call(t, http.MethodGet, pds.URL+"/xrpc/com.atproto.server.getServiceAuth?aud="+url.QueryEscape(h.did), session.token, nil, &service)
	return service.Token
}

// addCrew lets the hold's captain make a member, and returns the record's URI.
func (h holdUnderTest) addCrew(t *testing.T, pds *referencepds.PDS, captain, member string, permissions ...string) string {
	t.Helper()
	var made struct{ URI string }
	call(t, http.MethodPost, h.url+"/xrpc/com.atproto.repo.createRecord", h.token(t, pds, captain), object{
		"repo": h.did, "collection": "io.atcr.hold.crew",
		"record": object{"$type": "io.atcr.hold.crew", "member": pds.Account(t, member).DID, "role": "member",
			"permissions": permissions, "addedAt": "2026-01-01T00:00:00.000Z"},
	}, &made)
	return made.URI
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
