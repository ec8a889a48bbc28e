package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/auth"
)

func pemOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestTheOAuthClientPublishesEveryKeyOfItsFileAndNoPrivateHalf(t *testing.T) {
	newest, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	older, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "client.key")
	require.NoError(t, os.WriteFile(path, append(pemOf(t, newest), pemOf(t, older)...), 0o600))
	keys, err := auth.ReadClientKeys(path)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	keys.ServeHTTP(w, httptest.NewRequest(http.MethodGet, auth.ClientKeysPath, nil))
	var set jose.JSONWebKeySet
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &set))
	require.Len(t, set.Keys, 2)
	for i, want := range []*ecdsa.PrivateKey{newest, older} {
		require.True(t, set.Keys[i].IsPublic())
		require.Equal(t, "ES256", set.Keys[i].Algorithm)
		require.True(t, want.PublicKey.Equal(set.Keys[i].Key), "the newest first")
	}
}

func TestAFileThatIsNoOAuthClientKeyIsNamed(t *testing.T) {
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for what, content := range map[string][]byte{"no PEM block": []byte("s3cret"), "EC P-256": pemOf(t, big), "key 1": []byte("-----BEGIN PRIVATE KEY-----\nczNjcmV0\n-----END PRIVATE KEY-----\n")} {
		path := filepath.Join(t.TempDir(), "client.key")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := auth.ReadClientKeys(path)
		require.ErrorContains(t, err, what)
		require.NotContains(t, err.Error(), "s3cret")
	}
	keys, err := auth.ReadClientKeys(filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.Nil(t, keys)
}
