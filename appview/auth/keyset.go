package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-jose/go-jose/v4"
	signing "github.com/golang-jwt/jwt/v5"

	"atcr.io/operator/appview/config/names"
)

const minRSABits = 2048

// KeySet is one key that signs and all keys that verify, by kid: the RFC 7638 thumbprint. Each key has exactly one
// algorithm: RS256 for RSA, ES256 for P-256. It never changes; a reload makes a new one.
type KeySet struct {
	private   crypto.Signer
	method    signing.SigningMethod
	signerKID string
	public    map[string]jose.JSONWebKey
}

// NewKeySet makes a set of the private key that signs (PEM: PKCS#8, PKCS#1 or SEC 1), a bundle of certificates and
// a JWK set. Either of the latter may be nil, for a file that is not there; one that is there names a key, and ends with
// it: a file that is being written has neither. The signer's own public half always verifies.
func NewKeySet(keyPEM, certPEM, jwks []byte) (*KeySet, error) {
	private, err := parsePrivateKey(keyPEM)
	if err != nil {
		return nil, err
	}
	s := &KeySet{public: map[string]jose.JSONWebKey{}}
	own, err := s.add(private.Public())
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	certs, err := parseBundle(certPEM)
	if err == nil {
		err = s.addAll(certs)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate bundle (%s): %w", names.AuthCertPath, err)
	}
	listed, err := parseJWKS(jwks)
	if err == nil {
		err = s.addAll(listed)
	}
	if err != nil {
		return nil, fmt.Errorf("JWK set: %w", err)
	}
	s.private, s.signerKID = private, own.KeyID
	s.method = signing.SigningMethodES256 // not by name: indigo puts methods of its own into golang-jwt's table
	if own.Algorithm == string(jose.RS256) {
		s.method = signing.SigningMethodRS256
	}
	return s, nil
}

// sign makes a token. Signing is golang-jwt's, which encodes claims once; verifying is go-jose's, which is stricter:
// each token that one makes and the other takes is checked by both.
func (s *KeySet) sign(claims signing.Claims) (string, error) {
	t := signing.NewWithClaims(s.method, claims)
	t.Header["kid"] = s.signerKID
	return t.SignedString(s.private)
}

func (s *KeySet) addAll(public []any) error {
	for _, k := range public {
		if _, err := s.add(k); err != nil {
			return err
		}
	}
	return nil
}

func (s *KeySet) add(public any) (jose.JSONWebKey, error) {
	k := jose.JSONWebKey{Key: public, Use: "sig"}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return k, errors.New("an EC key must be on P-256")
		}
		k.Algorithm = string(jose.ES256)
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSABits {
			return k, fmt.Errorf("an RSA key must have at least %d bits", minRSABits)
		}
		k.Algorithm = string(jose.RS256)
	default:
		return k, errors.New("a key must be RSA or EC P-256")
	}
	thumb, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return k, err
	}
	k.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	s.public[k.KeyID] = k
	return k, nil
}

// KIDs are the ids of every key that verifies, sorted.
func (s *KeySet) KIDs() []string { return slices.Sorted(maps.Keys(s.public)) }

// SignerKID is the id of the key that signs.
func (s *KeySet) SignerKID() string { return s.signerKID }

// Hash names the set in /readyz ([names.KeySetHash]).
func (s *KeySet) Hash() string { return names.KeySetHash(s.KIDs()) }

// JWKS is the public set (RFC 7517).
func (s *KeySet) JWKS() jose.JSONWebKeySet {
	var out jose.JSONWebKeySet
	for _, kid := range s.KIDs() {
		out.Keys = append(out.Keys, s.public[kid])
	}
	return out
}

// parseBundle are the public keys of certificates; there may be text before and between them.
func parseBundle(b []byte) ([]any, error) {
	if b == nil {
		return nil, nil
	}
	var public []any
	rest := b
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		public, rest = append(public, cert.PublicKey), after
	}
	const remedy = "replace the file by renaming a whole one to its name"
	switch begun := bytes.Count(b, []byte("-----BEGIN ")); {
	case begun > len(public) || len(public) > 0 && len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("it is cut off: after %d certificates there is something that is none; %s", len(public), remedy)
	case len(public) == 0:
		return nil, errors.New("no certificate is in it; " + remedy)
	}
	return public, nil
}

// parseJWKS are the public keys of a JWK set.
func parseJWKS(b []byte) ([]any, error) {
	if b == nil {
		return nil, nil
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no key is in it")
	}
	var public []any
	for _, k := range set.Keys {
		public = append(public, k.Public().Key)
	}
	return public, nil
}

func parsePrivateKey(b []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return nil, errors.New("signing key: no PEM block with a private key")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("signing key: encrypted; decrypt it, e.g. with openssl pkcs8")
		default: // EC PARAMETERS and comments
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("signing key: malformed %s", block.Type)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, errors.New("signing key: must be RSA or EC P-256")
		}
		return signer, nil
	}
}
