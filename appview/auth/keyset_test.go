package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
)

func TestKeysThatAreTooWeakOrOfAnotherKindAreRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	good := pemKey(t, ecKey(t))
	cert, err := selfSigned(ecKey(t), testService)
	require.NoError(t, err)
	for name, in := range map[string][3][]byte{
		"P-384":                   {pemKey(t, p384)},
		"RSA 1024":                {weakRSA(t)},
		"nothing":                 {nil},
		"a certificate only":      {[]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")},
		"encrypted":               {[]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n")},
		"a broken key":            {[]byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n")},
		"a broken bundle":         {good, []byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")},
		"an empty bundle":         {good, {}},
		"a bundle of blank lines": {good, []byte("\n\n")},
		"a bundle of other text":  {good, []byte("certificates\n")},
		"a bundle cut off":        {good, slices.Concat(cert, cert[:len(cert)-40])},
		"cut off in a first line": {good, slices.Concat(cert, cert[:8])},
		"one missing its end":     {good, slices.Concat(cert[:len(cert)-40], cert)},
		"a broken JWK set":        {good, nil, []byte("{")},
		"an empty JWK set":        {good, nil, {}},
		"a JWK set without keys":  {good, nil, []byte(`{"keys":[]}`)},
		"a symmetric key in JWKS": {good, nil, []byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`)},
	} {
		_, err := NewKeySet(in[0], in[1], in[2])
		require.Error(t, err, name)
	}
	set, err := NewKeySet(good, slices.Concat([]byte("old:\n"), cert, []byte("\nolder:\r\n"), cert, []byte("\n\n")), nil)
	require.NoError(t, err, "as openssl writes them")
	require.Len(t, set.KIDs(), 2)
}

// weakRSA is a 1024-bit key; Go makes none of that size any more.
func weakRSA(t *testing.T) []byte {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	return pemKey(t, rsaKey(t, 1024))
}

func TestKIDsAreRFC7638ThumbprintsAlsoWithLeadingZeros(t *testing.T) {
	zeros, seen := 0, map[string]bool{}
	for range 10_000 {
		key := ecKey(t)
		s := &KeySet{public: map[string]jose.JSONWebKey{}}
		k, err := s.add(key.Public())
		require.NoError(t, err)
		point, err := key.PublicKey.Bytes() // 0x04, then x and y of 32 bytes each
		require.NoError(t, err)
		x, y := point[1:33], point[33:]
		if x[0] == 0 || y[0] == 0 {
			zeros++
		}
		enc := base64.RawURLEncoding.EncodeToString
		sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + enc(x) + `","y":"` + enc(y) + `"}`))
		if kid := enc(sum[:]); kid != k.KeyID || seen[kid] {
			t.Fatalf("kid %s, want %s, seen %v", k.KeyID, kid, seen[kid])
		}
		seen[k.KeyID] = true
	}
	require.Positive(t, zeros, "some keys have the leading zero that others get wrong")
}

func TestThumbprintsArePublishedOnes(t *testing.T) {
	// The keys of RFC 7517, appendix A.1. The RSA key's thumbprint is the example of RFC 7638, section 3.1; the EC key's
	// is that of section 3 worked out by hand: SHA-256 of {"crv":"P-256","kty":"EC","x":"...","y":"..."}.
	const jwks = `{"keys":[
		{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
		{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}`
	own := ecKey(t)
	set, err := NewKeySet(pemKey(t, own), nil, []byte(jwks))
	require.NoError(t, err)
	require.Len(t, set.KIDs(), 3)
	require.Contains(t, set.KIDs(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
	require.Contains(t, set.KIDs(), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s")
	for _, k := range set.JWKS().Keys {
		require.Equal(t, "sig", k.Use, "what the file says of a key does not count: one algorithm and use per key")
		require.NotContains(t, []string{"1", "2011-04-29"}, k.KeyID)
	}
}

func TestMissingKeysAreMadeOnceOrDemanded(t *testing.T) {
	for _, kind := range []string{"ecdsa", "rsa"} {
		dir := filepath.Join(t.TempDir(), "auth")
		f := KeyFiles{KeyPath: filepath.Join(dir, "k.pem"), CertPath: filepath.Join(dir, "k.crt"), Service: testService, Kind: kind, Required: true}
		_, err := OpenKeys(f, discard)
		require.ErrorContains(t, err, names.AuthKeyRequired)
		require.NoDirExists(t, dir)
		f.Required = false
		kids := make(chan string, 8)
		var wg sync.WaitGroup
		for range cap(kids) {
			wg.Go(func() {
				k, err := OpenKeys(f, discard)
				if err != nil {
					t.Error(err)
					return
				}
				kids <- k.Set().Hash()
			})
		}
		wg.Wait()
		close(kids)
		first := <-kids
		for other := range kids {
			require.Equal(t, first, other)
		}
		info, err := os.Stat(f.KeyPath)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		certs, err := os.ReadFile(f.CertPath)
		require.NoError(t, err)
		block, _ := pem.Decode(certs)
		_, err = x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
	}
}

func TestTheJWKSHasPublicKeysOnly(t *testing.T) {
	f := newFixture(t, ecKey(t))
	rec := httptest.NewRecorder()
	f.k.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	var set struct{ Keys []map[string]any }
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &set))
	require.Len(t, set.Keys, 1)
	require.NotContains(t, set.Keys[0], "d")
	require.Equal(t, f.k.Set().SignerKID(), set.Keys[0]["kid"])
	require.Equal(t, "ES256", set.Keys[0]["alg"])
}
