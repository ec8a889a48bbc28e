package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
)

func TestAClientWithARefreshTokenRenewsTokensThatNoLongerCount(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	blob := push(t, w, app, []byte("{}"))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifestOf(blob, blob, 2, 2)).StatusCode)
	refresh := tokenForm(t, w, url.Values{"grant_type": {"password"}, "access_type": {"offline"}, "client_id": {"oras"},
		"username": {servertest.Alice}, "password": {w.Account(servertest.Alice).AppPassword}}).Refresh
	require.NotEmpty(t, refresh)

	repo, err := orasremote.NewRepository(w.Host() + "/" + app)
	require.NoError(t, err)
	repo.PlainHTTP = true
	repo.Client = &auth.Client{Client: http.DefaultClient, Cache: auth.NewCache(),
		Credential: auth.StaticCredential(w.Host(), auth.Credential{RefreshToken: refresh})}
	desc, err := repo.Resolve(t.Context(), "v1")
	require.NoError(t, err)
	require.NoError(t, repo.Tag(t.Context(), desc, "v2"), "it may push")

	// Every token that is out there stops to count: the keys are others now.
	before := readyz(t, w)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	path, cert := keyFiles(w)
	require.NoError(t, os.Remove(cert)) // it vouches for the old key
	require.NoError(t, os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
	require.Eventually(t, func() bool { return readyz(t, w) != before }, time.Minute, 5*time.Millisecond)

	got, err := repo.Resolve(t.Context(), "v2")
	require.NoError(t, err, "the client fetches a new token by itself")
	require.Equal(t, desc.Digest, got.Digest)
	require.NoError(t, repo.Tag(t.Context(), desc, "v3"))
}

// readyz is the probe's answer: it names the keys.
func readyz(t *testing.T, w *servertest.World) string {
	t.Helper()
	resp, err := http.Get(w.DebugURL + names.PathReady)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	b := make([]byte, 4096)
	n, _ := resp.Body.Read(b) // a few hundred bytes
	return string(b[:n])
}

// keyFiles are the paths of the world's signing key and certificates.
func keyFiles(w *servertest.World) (key, cert string) {
	for _, kv := range w.Environ() {
		if len(kv) > len(names.AuthKeyPath) && kv[:len(names.AuthKeyPath)+1] == names.AuthKeyPath+"=" {
			key = kv[len(names.AuthKeyPath)+1:]
		}
		if len(kv) > len(names.AuthCertPath) && kv[:len(names.AuthCertPath)+1] == names.AuthCertPath+"=" {
			cert = kv[len(names.AuthCertPath)+1:]
		}
	}
	return key, cert
}

func TestHEADSaysInAHeaderWhatItsBodyCannot(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	resp := w.Do("", http.MethodHead, "/v2/"+app+"/manifests/none", app, nil, nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Regexp(t, `^MANIFEST_UNKNOWN: .+\.$`, resp.Header.Get("X-Atcr-Error"))
	resp = w.Do("", http.MethodGet, "/v2/"+app+"/manifests/none", app, nil, nil)
	require.Empty(t, resp.Header.Get("X-Atcr-Error"), "GET has a body for it")
}
