package hold_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/stretchr/testify/require"
)

// forge signs any header and claims.
func forge(t *testing.T, header, claims object, sign func([]byte) []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	require.NoError(t, err)
	c, err := json.Marshal(claims)
	require.NoError(t, err)
	signed := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(signed)))
}

func signer(t *testing.T, key atcrypto.PrivateKey) func([]byte) []byte {
	return func(b []byte) []byte {
		sig, err := key.HashAndSign(b)
		require.NoError(t, err)
		return sig
	}
}

func TestServiceTokens(t *testing.T) {
	w := newWorld(t, nil)
	key, err := w.net.Engine().SigningKey(t.Context(), w.did(alice))
	require.NoError(t, err)
	bobsKey, err := w.net.Engine().SigningKey(t.Context(), w.did(bob))
	require.NoError(t, err)
	pub, err := key.PublicKey()
	require.NoError(t, err)
	p256, err := atcrypto.GeneratePrivateKeyP256()
	require.NoError(t, err)

	now := time.Now()
	es256k := object{"alg": "ES256K", "typ": "JWT"}
	claims := func(change object) object {
		c := object{"iss": w.did(alice), "aud": w.hold.DID(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "x"}
		for k, v := range change {
			if v == nil {
				delete(c, k)
				continue
			}
			c[k] = v
		}
		return c
	}
	mine := signer(t, key)
	publicBytes := pub.Bytes()
	for _, tt := range []struct {
		name  string
		token string
		good  bool
	}{
		{"as it should be", forge(t, es256k, claims(nil), mine), true},
		{"audience with the service's fragment", forge(t, es256k, claims(object{"aud": w.hold.DID().String() + "#atcr_hold"}), mine), true},
		{"audience with a bare port", forge(t, es256k, claims(object{"aud": strings.Replace(w.hold.DID().String(), "%3A", ":", 1)}), mine), true},
		{"for the called method", forge(t, es256k, claims(object{"lxm": "io.atcr.hold.initiateUpload"}), mine), true},
		{"for getRecord, as AppViews with OAuth have it", forge(t, es256k, claims(object{"lxm": "com.atproto.repo.getRecord"}), mine), true},
		{"an hour long", forge(t, es256k, claims(object{"exp": now.Add(time.Hour - time.Second).Unix()}), mine), true},

		{"for another service", forge(t, es256k, claims(object{"aud": "did:web:other.example.com"}), mine), false},
		{"for another fragment", forge(t, es256k, claims(object{"aud": w.hold.DID().String() + "#atproto_labeler"}), mine), false},
		{"for several services", forge(t, es256k, claims(object{"aud": []string{"did:web:other.example.com", "did:web:x"}}), mine), false},
		{"for nobody", forge(t, es256k, claims(object{"aud": nil}), mine), false},
		{"for another method", forge(t, es256k, claims(object{"lxm": "io.atcr.hold.completeUpload"}), mine), false},
		{"expired", forge(t, es256k, claims(object{"exp": now.Add(-time.Minute).Unix()}), mine), false},
		{"without expiry", forge(t, es256k, claims(object{"exp": nil}), mine), false},
		{"too long", forge(t, es256k, claims(object{"exp": now.Add(2 * time.Hour).Unix()}), mine), false},
		{"from the future", forge(t, es256k, claims(object{"iat": now.Add(time.Hour).Unix()}), mine), false},
		{"signed by another", forge(t, es256k, claims(nil), signer(t, bobsKey)), false},
		{"signed by a key of another curve", forge(t, object{"alg": "ES256", "typ": "JWT"}, claims(nil), signer(t, p256)), false},
		{"named ES256, signed by the right key", forge(t, object{"alg": "ES256", "typ": "JWT"}, claims(nil), mine), false},
		{"without algorithm", forge(t, object{"alg": "none", "typ": "JWT"}, claims(nil), func([]byte) []byte { return nil }), false},
		{"HMAC with the public key", forge(t, object{"alg": "HS256", "typ": "JWT"}, claims(nil), func(b []byte) []byte {
			m := hmac.New(sha256.New, publicBytes)
			m.Write(b)
			return m.Sum(nil)
		}), false},
		{"with a key of its own", forge(t, object{"alg": "ES256", "typ": "JWT", "jwk": object{"kty": "EC"}}, claims(nil), signer(t, p256)), false},
		{"of an unknown issuer", forge(t, es256k, claims(object{"iss": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}), mine), false},
		{"of no DID", forge(t, es256k, claims(object{"iss": "alice"}), mine), false},
		{"of a did:web inside the network", forge(t, es256k, claims(object{"iss": "did:web:169.254.169.254"}), mine), false},
		{"cut", forge(t, es256k, claims(nil), mine)[:100], false},
		{"nonsense", "nonsense", false},
		{"huge", strings.Repeat("x", 20_000), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.initiateUpload", tt.token, object{"digest": "x"})
			if tt.good {
				require.Equal(t, http.StatusOK, a.status, "%s", a.body)
				return
			}
			require.Equal(t, http.StatusUnauthorized, a.status, "%s", a.body)
			require.Equal(t, "AuthRequired", a.errorName())
			require.NotEmpty(t, a.header.Get("WWW-Authenticate"))
			require.NotContains(t, string(a.body), tt.token)
		})
	}
}

func TestATokenInAnotherSchemeIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/xrpc/io.atcr.hold.initiateUpload", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Basic "+w.token(alice))
	require.Equal(t, http.StatusUnauthorized, w.do(req).status)
}

func TestWithoutItsDirectoryTheHoldAsksToTryAgain(t *testing.T) {
	w := newWorld(t, nil)
	token := w.token(alice)
	require.NoError(t, w.net.Close())
	a := w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.initiateUpload", token, object{"digest": "x"})
	require.Equal(t, http.StatusServiceUnavailable, a.status, "%s", a.body)
	require.Equal(t, "IdentityUnavailable", a.errorName())
}
