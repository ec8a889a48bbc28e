package keyset_test

import (
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func generate(t *testing.T, a keyset.Algorithm) *keyset.Key {
	t.Helper()
	k, err := keyset.Generate(rand.Reader, a, "registry.example.com", now)
	require.NoError(t, err)
	return k
}

func files(t *testing.T, s *keyset.Set) map[string][]byte {
	t.Helper()
	f, err := s.Files()
	require.NoError(t, err)
	return f
}

func TestATokenSignedByTheCurrentKeyVerifiesWithThePublishedSet(t *testing.T) {
	for _, a := range []keyset.Algorithm{keyset.ES256, keyset.RS256} {
		t.Run(string(a), func(t *testing.T) {
			key := generate(t, a)
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(a), Key: key.Signer},
				(&jose.SignerOptions{}).WithHeader("kid", key.Kid))
			require.NoError(t, err)
			jws, err := signer.Sign([]byte("a token"))
			require.NoError(t, err)

			var set jose.JSONWebKeySet
			require.NoError(t, json.Unmarshal(files(t, &keyset.Set{Current: key})[names.FileJWKS], &set))
			published := set.Key(key.Kid)
			require.Len(t, published, 1)
			payload, err := jws.Verify(published[0])
			require.NoError(t, err)
			require.Equal(t, "a token", string(payload))
		})
	}
}

func TestASetReadsBackAsItWasWritten(t *testing.T) {
	current, next, old := generate(t, keyset.ES256), generate(t, keyset.ES256).Public(), generate(t, keyset.RS256).Public()
	set := &keyset.Set{Current: current, Next: &next, Retired: []keyset.Retired{{Public: old, Until: now}}}

	got, err := keyset.Parse(files(t, set))
	require.NoError(t, err)
	require.Equal(t, set.Hash(), got.Hash())
	require.Equal(t, current.Kid, got.Current.Kid)
	require.Equal(t, keyset.ES256, got.Current.Algorithm)
	require.Len(t, got.Verifying(), 3)

	got.Recall(set.Record(), now)
	require.Equal(t, next.Kid, got.Next.Kid)
	require.Equal(t, now, got.Retired[0].Until)
}

func TestTheHashDependsOnEveryVerifyingKey(t *testing.T) {
	current, next := generate(t, keyset.ES256), generate(t, keyset.ES256).Public()
	require.NotEqual(t, (&keyset.Set{Current: current}).Hash(), (&keyset.Set{Current: current, Next: &next}).Hash())
}

func TestFilesThatDoNotFitTogetherAreRefused(t *testing.T) {
	one, two := files(t, &keyset.Set{Current: generate(t, keyset.ES256)}), files(t, &keyset.Set{Current: generate(t, keyset.ES256)})
	for name, spoil := range map[string]func(map[string][]byte){
		"private key is missing":     func(f map[string][]byte) { delete(f, names.FileSigningKey) },
		"private key of another set": func(f map[string][]byte) { f[names.FileSigningKey] = two[names.FileSigningKey] },
		"certificate of another set": func(f map[string][]byte) { f[names.FileSigningCert] = two[names.FileSigningCert] },
		"JWK set of another set":     func(f map[string][]byte) { f[names.FileJWKS] = two[names.FileJWKS] },
		"private key is no PEM":      func(f map[string][]byte) { f[names.FileSigningKey] = []byte("s3cret") },
		"certificates are no PEM":    func(f map[string][]byte) { f[names.FileSigningCert] = []byte("s3cret") },
		"JWK set is no JSON":         func(f map[string][]byte) { f[names.FileJWKS] = []byte("s3cret") },
		"JWK set with a private key": func(f map[string][]byte) { f[names.FileJWKS] = privateJWKS(t) },
		"a certificate that verifies nothing": func(f map[string][]byte) {
			f[names.FileSigningCert] = append(f[names.FileSigningCert], two[names.FileSigningCert]...)
		},
		"a certificate in the private key": func(f map[string][]byte) { f[names.FileSigningKey] = one[names.FileSigningCert] },
		"more certificates than a set may have": func(f map[string][]byte) {
			for range keyset.MaxVerifying {
				f[names.FileSigningCert] = append(f[names.FileSigningCert], one[names.FileSigningCert]...)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := map[string][]byte{}
			for k, v := range one {
				f[k] = append([]byte(nil), v...)
			}
			spoil(f)
			_, err := keyset.Parse(f)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func privateJWKS(t *testing.T) []byte {
	k := generate(t, keyset.ES256)
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.Signer, KeyID: k.Kid}}})
	require.NoError(t, err)
	return b
}

func TestASealingKeyIs32RandomBytes(t *testing.T) {
	a, err := keyset.GenerateSealing(rand.Reader)
	require.NoError(t, err)
	b, err := keyset.GenerateSealing(rand.Reader)
	require.NoError(t, err)
	require.NoError(t, keyset.CheckSealing(a))
	require.NotEqual(t, a, b)
	require.Error(t, keyset.CheckSealing(nil))
	require.Error(t, keyset.CheckSealing(a[:40]))
}

func FuzzParse(f *testing.F) {
	k, err := keyset.Generate(rand.Reader, keyset.ES256, "x", now)
	require.NoError(f, err)
	good, err := (&keyset.Set{Current: k}).Files()
	require.NoError(f, err)
	f.Add(good[names.FileSigningKey], good[names.FileSigningCert], good[names.FileJWKS])
	f.Add([]byte("-----BEGIN PRIVATE KEY-----"), []byte("x"), []byte(`{"keys":[{}]}`))
	f.Fuzz(func(t *testing.T, key, cert, jwks []byte) {
		s, err := keyset.Parse(map[string][]byte{names.FileSigningKey: key, names.FileSigningCert: cert, names.FileJWKS: jwks})
		if err == nil {
			require.NotEmpty(t, s.Current.Kid)
		}
	})
}
