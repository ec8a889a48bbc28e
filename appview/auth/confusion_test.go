package auth

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// raw makes a token of a header as JSON text, a payload, and a signature.
func raw(header, payload string, signature []byte) string {
	return b64([]byte(header)) + "." + payload + "." + b64(signature)
}

// TestTheKeyDecidesTheAlgorithm tries every algorithm that a token may name with every secret that an attacker may
// have under the id of a key that we trust.
func TestTheKeyDecidesTheAlgorithm(t *testing.T) {
	for right, key := range map[string]crypto.Signer{"ES256": ecKey(t), "RS256": rsaKey(t, 2048)} {
		f := newFixture(t, key)
		kid, payload := f.k.Set().SignerKID(), strings.Split(f.issue(), ".")[1]
		refused := func(why, token string) {
			t.Helper()
			_, err := f.v.Verify(token)
			require.ErrorIs(t, err, ErrInvalidToken, "%s: %s", right, why)
		}
		_, err := f.v.Verify(f.issue())
		require.NoError(t, err)

		for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
			"ES256", "ES384", "ES512", "ES256K", "EdDSA", "es256", "rs256", "RSA1_5", "dir"} {
			header := `{"alg":"` + alg + `","kid":"` + kid + `","typ":"JWT"}`
			refused("no signature, alg "+alg, raw(header, payload, nil))
			refused("a signature of zeros, alg "+alg, raw(header, payload, make([]byte, 64)))
			refused("no third part, alg "+alg, strings.TrimSuffix(raw(header, payload, nil), "."))
		}

		// HS256 with everything of the public key that is published.
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		require.NoError(t, err)
		jwk, err := json.Marshal(f.k.Set().public[kid])
		require.NoError(t, err)
		jwks, err := json.Marshal(f.k.Set().JWKS())
		require.NoError(t, err)
		cert, err := selfSigned(key, testService)
		require.NoError(t, err)
		for why, secret := range map[string][]byte{"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "JWK": jwk, "JWKS": jwks,
			"certificate": cert, "kid": []byte(kid), "nothing": {}} {
			header := b64([]byte(`{"alg":"HS256","kid":"` + kid + `","typ":"JWT"}`))
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(header + "." + payload))
			refused("HS256 with "+why, header+"."+payload+"."+b64(mac.Sum(nil)))
		}

		// The other kind of key, and the same key with another algorithm of its kind, under our kid.
		withKID := map[jose.HeaderKey]any{"kid": kid}
		if right == "ES256" {
			for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS256} {
				refused(string(alg), f.forge(alg, rsaKey(t, 2048), withKID, f.claims(nil)))
			}
		} else {
			refused("ES256", f.forge(jose.ES256, ecKey(t), withKID, f.claims(nil)))
			for _, alg := range []jose.SignatureAlgorithm{jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512} {
				refused("the right key with "+string(alg), f.forge(alg, key, withKID, f.claims(nil)))
			}
		}
	}
}

func TestSignaturesHaveOneForm(t *testing.T) {
	f := newFixture(t, ecKey(t))
	token := f.issue()
	parts := strings.Split(token, ".")
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(t, err)
	asn, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
	require.NoError(t, err)
	signed := parts[0] + "." + parts[1] + "."
	for why, bad := range map[string]string{
		"ASN.1":                signed + b64(asn),
		"one byte less":        signed + b64(sig[:63]),
		"one byte more":        signed + b64(append(sig[:64:64], 0)),
		"padding":              token + "==",
		"a line break":         token[:len(token)-4] + "\n" + token[len(token)-4:],
		"standard base64":      signed + base64.StdEncoding.EncodeToString(sig),
		"four parts":           token + ".",
		"the JSON form":        `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"swapped halves":       signed + b64(append(append([]byte{}, sig[32:]...), sig[:32]...)),
		"r and s of the order": signed + b64(append(f.order(), f.order()...)),
	} {
		_, err := f.v.Verify(bad)
		require.ErrorIs(t, err, ErrInvalidToken, why)
	}
}

// order is the order of P-256: r = s = n is zero where it is reduced and not checked.
func (f *fixture) order() []byte {
	n, ok := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	require.True(f.t, ok)
	return n.Bytes()
}

func TestHeadersBringNothingAlong(t *testing.T) {
	f := newFixture(t, ecKey(t))
	kid, parts := f.k.Set().SignerKID(), strings.Split(f.issue(), ".")
	// Headers signed by the right key: only what they say is wrong.
	for why, header := range map[string]string{
		"crit":                 `{"alg":"ES256","kid":"` + kid + `","crit":["exp"]}`,
		"b64":                  `{"alg":"ES256","kid":"` + kid + `","b64":false,"crit":["b64"]}`,
		"jwk":                  `{"alg":"ES256","kid":"` + kid + `","jwk":{"kty":"EC"}}`,
		"jwk without kid":      `{"alg":"ES256","jwk":{"kty":"EC"}}`,
		"JWK in capitals":      `{"alg":"ES256","kid":"` + kid + `","JWK":{}}`,
		"x5t":                  `{"alg":"ES256","kid":"` + kid + `","x5t":"x"}`,
		"zip":                  `{"alg":"ES256","kid":"` + kid + `","zip":"DEF"}`,
		"cty":                  `{"alg":"ES256","kid":"` + kid + `","cty":"JWT"}`,
		"kid is a number":      `{"alg":"ES256","kid":1}`,
		"kid is a list":        `{"alg":"ES256","kid":["` + kid + `"]}`,
		"kid is null":          `{"alg":"ES256","kid":null}`,
		"kid twice, ours last": `{"alg":"ES256","kid":"x","kid":"` + kid + `"}`,
		"alg twice":            `{"alg":"none","alg":"ES256","kid":"` + kid + `"}`,
		"a list":               `["ES256","` + kid + `"]`,
		"nothing":              `{}`,
		"two documents":        `{"alg":"ES256","kid":"` + kid + `"}{}`,
	} {
		_, err := f.v.Verify(f.signRaw(header, parts[1]))
		require.ErrorIs(t, err, ErrInvalidToken, why)
	}
	for _, bad := range []string{"../../etc/passwd", "/etc/atcr/signing/private-key.pem", "' OR '1'='1", "x'; DROP TABLE pds_sessions; --", "\\u0000", "%2e%2e%2f",
		kid + " ", " " + kid, kid + "\\u0000", strings.ToLower(kid), strings.ToUpper(kid), kid[:len(kid)-1], kid + "=", "*", "${kid}", strings.Repeat("A", 4096)} {
		_, err := f.v.Verify(f.signRaw(`{"alg":"ES256","kid":"`+bad+`"}`, parts[1]))
		require.ErrorIs(t, err, ErrInvalidToken, bad)
		require.NotContains(t, err.Error(), bad, "what a stranger sent is not repeated in logs")
	}
	_, err := f.v.Verify(f.signRaw(`{"alg":"ES256","kid":"`+kid+`","typ":"JWT"}`, parts[1]))
	require.NoError(t, err, "the signatures are right")
}

// signRaw signs any header with the fixture's own key.
func (f *fixture) signRaw(header, payload string) string {
	f.t.Helper()
	signed := b64([]byte(header)) + "." + payload
	sum := sha256.Sum256([]byte(signed))
	der, err := f.key.Sign(nil, sum[:], crypto.SHA256)
	require.NoError(f.t, err)
	var rs struct{ R, S *big.Int }
	_, err = asn1.Unmarshal(der, &rs)
	require.NoError(f.t, err)
	return signed + "." + b64(append(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32))...))
}
