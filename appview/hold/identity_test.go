package hold_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/hold"
)

func TestTheHoldIsADidWebOfItsPublicURL(t *testing.T) {
	w := newWorld(t, nil)
	host := strings.TrimPrefix(w.url, "http://")
	require.Equal(t, "did:web:"+strings.Replace(host, ":", "%3A", 1), w.hold.DID().String())

	client := diddoc.NewClient(diddoc.Policy{DevLoopback: true}, diddoc.Options{})
	doc, err := diddoc.FetchWebDocument(t.Context(), client, w.hold.DID().String(), "")
	require.NoError(t, err)
	require.Equal(t, w.hold.DID().String(), doc.ID)
	for _, endpoint := range []func(*diddoc.Document) (string, error){diddoc.HoldEndpoint, diddoc.PDSEndpoint} {
		got, err := endpoint(doc)
		require.NoError(t, err)
		require.Equal(t, w.url, got)
	}
	kind, multibase, ok := diddoc.SigningKey(doc)
	require.True(t, ok)
	require.Equal(t, "Multikey", kind)
	_, err = atcrypto.ParsePublicMultibase(multibase)
	require.NoError(t, err)

	a := w.send(http.MethodGet, w.url+"/.well-known/atproto-did", "", nil)
	require.Equal(t, w.hold.DID().String(), string(a.body))
	a = w.query(nobody, "com.atproto.identity.resolveHandle", url.Values{"handle": {host}})
	require.JSONEq(t, `{"did":"`+w.hold.DID().String()+`"}`, string(a.body))
	require.Equal(t, "HandleNotFound", w.query(nobody, "com.atproto.identity.resolveHandle", url.Values{"handle": {alice}}).errorName())

	var described struct {
		Handle, DID string
		DIDDoc      diddoc.Document
		Collections []string
	}
	w.query(nobody, "com.atproto.repo.describeRepo", url.Values{"repo": {w.hold.DID().String()}}).json(&described)
	require.Equal(t, host, described.Handle)
	require.Equal(t, w.hold.DID().String(), described.DID)
	require.Equal(t, w.hold.DID().String(), described.DIDDoc.ID)
	require.Equal(t, []string{"io.atcr.hold.captain", "io.atcr.hold.crew"}, described.Collections)
}

func TestHealthAndProbes(t *testing.T) {
	w := newWorld(t, nil)
	a := w.send(http.MethodGet, w.url+"/xrpc/_health", "", nil)
	require.Equal(t, http.StatusOK, a.status)
	require.JSONEq(t, `{"version":"dev","did":"`+w.hold.DID().String()+`"}`, string(a.body))
	w.push(alice, []byte("x"))

	probe := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		require.NoError(t, err)
		rec := httptest.NewRecorder()
		w.hold.DebugHandler().ServeHTTP(rec, req)
		return rec.Code, rec.Body.String()
	}
	for _, path := range []string{"/livez", "/readyz"} {
		code, _ := probe(path)
		require.Equal(t, http.StatusOK, code, path)
	}
	_, metrics := probe("/metrics")
	require.Contains(t, metrics, `atcr_hold_uploads_total{outcome="completed"} 1`)
	require.Contains(t, metrics, `atcr_hold_requests_total{code="200",method="io.atcr.hold.completeUpload"} 1`)

	require.NoError(t, os.RemoveAll(w.cfg.StorageRootDir))
	require.Eventually(t, func() bool {
		return w.send(http.MethodGet, w.url+"/xrpc/_health", "", nil).status == http.StatusServiceUnavailable
	}, 10*time.Second, 50*time.Millisecond)
	code, _ := probe("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	code, _ = probe("/livez")
	require.Equal(t, http.StatusOK, code)
}

func TestPathsThatDoNotExist(t *testing.T) {
	w := newWorld(t, nil)
	require.Equal(t, http.StatusOK, w.send(http.MethodGet, w.url+"/", "", nil).status)
	require.Equal(t, "NotFound", w.send(http.MethodGet, w.url+"/secret", "", nil).errorName())
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		a := w.send(method, w.url+"/xrpc/io.atcr.hold.unknown", "", nil)
		require.GreaterOrEqual(t, a.status, 400)
	}
	require.GreaterOrEqual(t, w.send(http.MethodGet, w.url+"/xrpc/io.atcr.hold.initiateUpload", "", nil).status, 400)
}

func TestADatabaseBelongsToOneHold(t *testing.T) {
	w := newWorld(t, nil)
	_, err := hold.New(t.Context(), w.cfg, w.deps)
	require.ErrorContains(t, err, "another hold uses the database directory")

	w.close()
	other := w.cfg
	other.PublicURL = "https://hold.example.com"
	_, err = hold.New(t.Context(), other, w.deps)
	require.ErrorContains(t, err, "belongs to "+w.hold.DID().String())
	require.ErrorContains(t, err, "HOLD_PUBLIC_URL")
}

func TestSecretsAreReadableByTheHoldOnly(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"hold.key", "url.key", "ledger.sqlite"} {
		info, err := os.Stat(filepath.Join(w.cfg.DatabaseDir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
}

func TestABrokenKeyFileIsNamedAndNotReplaced(t *testing.T) {
	w := newWorld(t, nil)
	w.close()
	path := filepath.Join(w.cfg.DatabaseDir, "hold.key")
	require.NoError(t, os.WriteFile(path, []byte("broken"), 0o600))
	_, err := hold.New(t.Context(), w.cfg, w.deps)
	require.ErrorContains(t, err, path)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "broken", string(b))
}
