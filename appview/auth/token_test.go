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
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/files"
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
	for _, c := range []struct {
		after time.Duration
		err   error
	}{{0, nil}, {5*time.Minute + 59*time.Second, nil}, {6*time.Minute + 2*time.Second, ErrExpiredToken}} {
		f.at = f.at.Add(c.after)
		_, err := f.v.Verify(token)
		require.ErrorIs(t, err, c.err)
		f.at = f.at.Add(-c.after)
	}
}

func TestARotationDropsNoRequest(t *testing.T) {
	first, second := ecKey(t), rsaKey(t, 2048)
	f := newFixture(t, first)
	oldToken, oldHash := f.issue(), f.k.Set().Hash()
	write := func(name string, b []byte) {
		path := filepath.Join(filepath.Dir(f.k.files.KeyPath), name)
		require.NoError(t, os.WriteFile(path+".new", b, 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	w := files.NewWatcher(time.Hour, discard)
	f.k.Watch(w)
	done := make(chan struct{})
	go func() { defer close(done); w.Run(t.Context()) }()
	t.Cleanup(func() { <-done })

	// Requests go on, with tokens of the time, while the keys change under them.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	v := NewVerifier(f.k, testService, time.Now)
	i := &Issuer{Keys: f.k, Service: testService, Life: 5 * time.Minute, Now: time.Now}
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				token, _, err := i.Issue(Subject{}, nil)
				if err == nil {
					_, err = v.Verify(token)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	both := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: first.Public()}, {Key: second.Public()}}}
	b, err := json.Marshal(both)
	require.NoError(t, err)
	write(names.FileJWKS, b) // the next key is published before it signs
	eventually(t, func() bool { return len(f.k.Set().KIDs()) == 2 })
	require.NotEqual(t, oldHash, f.k.Set().Hash())
	write(names.FileSigningKey, pemKey(t, second))
	eventually(t, func() bool { return strings.HasPrefix(jwtAlg(t, f.issue()), "RS") })
	close(stop)
	wg.Wait()
	_, err = f.v.Verify(oldToken)
	require.NoError(t, err, "the old key still verifies")

	good := f.k.Set()
	write(names.FileSigningKey, []byte("half a fi"))
	_, err = f.k.Reload()
	require.Error(t, err)
	require.Same(t, good, f.k.Set(), "a bad key leaves the last good ones")
	write(names.FileSigningKey, pemKey(t, second))

	onlySecond, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: second.Public()}}})
	require.NoError(t, err)
	write(names.FileJWKS, onlySecond)
	require.NoError(t, os.Remove(f.k.files.CertPath)) // it has the first key
	eventually(t, func() bool { return len(f.k.Set().KIDs()) == 1 })
	_, err = f.v.Verify(oldToken)
	require.ErrorIs(t, err, ErrInvalidToken, "a revoked key ends its tokens, remembered or not")
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 10*time.Second, 5*time.Millisecond)
}

func jwtAlg(t *testing.T, token string) string {
	t.Helper()
	p, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	require.NoError(t, err)
	return p.Headers[0].Algorithm
}

func FuzzVerify(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	set, err := NewKeySet(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	k := &Keys{log: discard}
	k.current.Store(set)
	v := NewVerifier(k, testService, time.Now)
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
