package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
)

const testService = "registry.test"

var discard = slog.New(slog.DiscardHandler)

func pemKey(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return k
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return k
}

// fixture has a key, an issuer and a verifier with a clock.
type fixture struct {
	t   *testing.T
	key crypto.Signer
	k   *Keys
	i   *Issuer
	v   *Verifier
	at  time.Time
}

func newFixture(t *testing.T, key crypto.Signer) *fixture {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, names.FileSigningKey)
	require.NoError(t, os.WriteFile(path, pemKey(t, key), 0o600))
	k, err := OpenKeys(KeyFiles{KeyPath: path, CertPath: filepath.Join(dir, names.FileSigningCert), Service: testService}, discard)
	require.NoError(t, err)
	f := &fixture{t: t, key: key, k: k, at: time.Now()}
	now := func() time.Time { return f.at }
	f.i = &Issuer{Keys: k, Service: testService, Life: 5 * time.Minute, Now: now}
	f.v = NewVerifier(k, testService, now)
	return f
}

func (f *fixture) issue() string {
	f.t.Helper()
	token, _, err := f.i.Issue(Subject{DID: "did:plc:a", Method: MethodAppPassword}, []Access{{Type: "repository", Name: "a.test/x", Actions: []string{Pull}}})
	require.NoError(f.t, err)
	return token
}

// forge signs whatever it is told to.
func (f *fixture) forge(alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, claims any) string {
	f.t.Helper()
	o := &jose.SignerOptions{ExtraHeaders: header}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	require.NoError(f.t, err)
	token, err := jwt.Signed(s).Claims(claims).Serialize()
	require.NoError(f.t, err)
	return token
}

func (f *fixture) claims(change func(*Claims)) Claims {
	c := Claims{Issuer: testService, Audience: jwt.Audience{"other", testService}, Subject: "did:plc:a", Expiry: jwt.NewNumericDate(f.at.Add(time.Minute)), NotBefore: jwt.NewNumericDate(f.at)}
	if change != nil {
		change(&c)
	}
	return c
}

func TestTokensOfBothKindsOfKeyVerify(t *testing.T) {
	for alg, key := range map[string]crypto.Signer{"ES256": ecKey(t), "RS256": rsaKey(t, 2048)} {
		f := newFixture(t, key)
		token := f.issue()
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
		require.NoError(t, err)
		require.Equal(t, f.k.Set().SignerKID(), parsed.Headers[0].KeyID)
		for range 2 { // the second is from memory
			c, err := f.v.Verify(token)
			require.NoError(t, err)
			require.True(t, c.Allows("a.test/x", Pull))
			require.False(t, c.Allows("a.test/x", Push))
			require.False(t, c.Allows("a.test/xy", Pull))
		}
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	key := ecKey(t)
	f := newFixture(t, key)
	kid := f.k.Set().SignerKID()
	withKID := map[jose.HeaderKey]any{"kid": kid}
	good := f.claims(nil)
	_, err := f.v.Verify(f.forge(jose.ES256, key, withKID, good))
	require.NoError(t, err, "the forger's tools work")

	other := ecKey(t)
	otherRSA := rsaKey(t, 2048)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	cert, err := selfSigned(other, "x")
	require.NoError(t, err)
	block, _ := pem.Decode(cert)
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+kid+`"}`)) + "." + strings.Split(f.issue(), ".")[1] + "."
	hmacHead := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"` + kid + `"}`))
	hmacBody := hmacHead + "." + strings.Split(f.issue(), ".")[1]
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte(hmacBody))

	for name, token := range map[string]string{
		"another key under our kid":     f.forge(jose.ES256, other, withKID, good),
		"another key under its own kid": f.forge(jose.ES256, jose.JSONWebKey{Key: other, KeyID: "x"}, nil, good),
		"no kid":                        f.forge(jose.ES256, key, nil, good),
		"jwk in the header":             f.forge(jose.ES256, other, map[jose.HeaderKey]any{"kid": kid, "jwk": jose.JSONWebKey{Key: other.Public(), KeyID: kid}}, good),
		"jku in the header":             f.forge(jose.ES256, key, map[jose.HeaderKey]any{"kid": kid, "jku": "https://evil.example.com"}, good),
		"x5u in the header":             f.forge(jose.ES256, key, map[jose.HeaderKey]any{"kid": kid, "x5u": "https://evil.example.com"}, good),
		"x5c in the header":             f.forge(jose.ES256, other, map[jose.HeaderKey]any{"kid": kid, "x5c": []string{base64.StdEncoding.EncodeToString(block.Bytes)}}, good),
		"RS256 under an ES256 kid":      f.forge(jose.RS256, otherRSA, withKID, good),
		"HS256 with the public key":     hmacBody + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		"alg none":                      none,
		"a path as kid":                 f.forge(jose.ES256, other, map[jose.HeaderKey]any{"kid": "../../etc/passwd"}, good),
		"another issuer":                f.forge(jose.ES256, key, withKID, f.claims(func(c *Claims) { c.Issuer = "evil" })),
		"another audience":              f.forge(jose.ES256, key, withKID, f.claims(func(c *Claims) { c.Audience = jwt.Audience{"evil"} })),
		"no audience":                   f.forge(jose.ES256, key, withKID, f.claims(func(c *Claims) { c.Audience = nil })),
		"no expiry":                     f.forge(jose.ES256, key, withKID, f.claims(func(c *Claims) { c.Expiry = nil })),
		"not valid yet":                 f.forge(jose.ES256, key, withKID, f.claims(func(c *Claims) { c.NotBefore = jwt.NewNumericDate(f.at.Add(2 * time.Minute)) })),
		"expired":                       f.forge(jose.ES256, key, withKID, f.claims(func(c *Claims) { c.Expiry = jwt.NewNumericDate(f.at.Add(-61 * time.Second)) })),
		"a changed payload":             tamper(f.issue()),
		"two parts":                     strings.Join(strings.Split(f.issue(), ".")[:2], "."),
		"nothing":                       "",
		"a very long one":               f.issue() + strings.Repeat("A", maxTokenLength),
	} {
		_, err := f.v.Verify(token)
		require.Error(t, err, name)
		if name == "expired" {
			require.ErrorIs(t, err, ErrExpiredToken)
		} else {
			require.ErrorIs(t, err, ErrInvalidToken, name)
		}
	}
}

func tamper(token string) string {
	parts := strings.Split(token, ".")
	b, _ := base64.RawURLEncoding.DecodeString(parts[1])
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(b), "pull", "push", 1)))
	return strings.Join(parts, ".")
}

func TestATokenLivesItsLifeAndAMinute(t *testing.T) {
	f := newFixture(t, ecKey(t))
	token := f.issue()
	issued := f.at.Truncate(time.Second)
	for _, c := range []struct {
		after time.Duration // on the verifier's clock
		err   error
	}{
		{-61 * time.Second, ErrInvalidToken}, // not valid yet
		{-59 * time.Second, nil}, {0, nil}, {5*time.Minute + 59*time.Second, nil},
		{6*time.Minute + time.Second, ErrExpiredToken},
		{-59 * time.Second, nil}, // whatever was remembered
	} {
		f.at = issued.Add(c.after)
		_, err := f.v.Verify(token)
		require.ErrorIs(t, err, c.err, c.after)
	}
}

// fuzzVerifier has one key, which it gives too.
func fuzzVerifier(f *testing.F) (*Verifier, *Keys, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(f, err)
	set, err := NewKeySet(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil, nil)
	require.NoError(f, err)
	k := &Keys{log: discard}
	k.current.Store(set)
	return NewVerifier(k, testService, time.Now), k, key
}

func FuzzVerify(f *testing.F) {
	v, k, _ := fuzzVerifier(f)
	good, _, _ := (&Issuer{Keys: k, Service: testService, Life: time.Hour, Now: time.Now}).Issue(Subject{}, nil)
	f.Add(good)
	f.Add("a.b.c")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"x"}`)) + "..")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := v.Verify(s); err == nil && s != good {
			// Base64 allows no other spelling of a signed token but by its unused bits, which go-jose refuses.
			t.Fatalf("accepted %q", s)
		}
	})
}

// Whatever somebody with our key signs, another program of the operator's say: a token counts only with one of our key
// ids, for this service, while it is valid, and with nothing else in its header.
func FuzzSignedToken(f *testing.F) {
	v, k, key := fuzzVerifier(f)
	kid, now := k.Set().SignerKID(), time.Now().Unix()
	header := `{"alg":"ES256","kid":"` + kid + `","typ":"JWT"}`
	claims := fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":%d,"nbf":%d,"sub":"did:plc:a","access":[{"type":"repository","name":"a/b","actions":["pull"]}]}`,
		testService, testService, now+3600, now)
	f.Add(header, claims, true)
	f.Add(header, claims, false)
	f.Add(strings.Replace(header, "ES256", "none", 1), claims, false)
	f.Add(strings.Replace(header, `}`, `,"jwk":{}}`, 1), claims, true)
	f.Add(header, strings.Replace(claims, `"exp"`, `"EXP"`, 1), true)
	f.Add(header, strings.Replace(claims, testService, "another.test", 1), true)
	f.Add(header, strings.Replace(claims, fmt.Sprint(now+3600), "1e400", 1), true)
	f.Add(header, strings.Replace(claims, `"aud":"`+testService+`"`, `"aud":["x","`+testService+`"]`, 1), true)
	f.Add(header, strings.Replace(claims, `"access":[`, `"access":[null,7,`, 1), true)
	f.Add(`[]`, `[]`, true)
	f.Fuzz(func(t *testing.T, header, claims string, signed bool) {
		signing := b64([]byte(header)) + "." + b64([]byte(claims))
		sig := make([]byte, 64)
		if signed {
			sum := sha256.Sum256([]byte(signing))
			r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
			require.NoError(t, err)
			r.FillBytes(sig[:32])
			s.FillBytes(sig[32:])
		}
		got, err := v.Verify(signing + "." + b64(sig))
		if err != nil {
			require.True(t, errors.Is(err, ErrInvalidToken) || errors.Is(err, ErrExpiredToken), err)
			require.Less(t, len(err.Error()), 200, "an error does not repeat the token")
			return
		}
		require.True(t, signed)
		var h map[string]any
		require.NoError(t, json.Unmarshal([]byte(header), &h))
		require.Equal(t, "ES256", h["alg"])
		require.Equal(t, kid, h["kid"])
		require.Subset(t, []string{"alg", "kid", "typ"}, slices.Collect(maps.Keys(h)))
		require.Equal(t, testService, got.Issuer)
		require.Contains(t, got.Audience, testService)
		require.True(t, time.Now().Before(got.Expiry.Time().Add(leeway+time.Minute)))
		require.False(t, got.AllowsOn("repository", "", "pull") && !strings.Contains(claims, `""`), "nothing is allowed that it does not name")
	})
}
