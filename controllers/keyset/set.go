package keyset

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"crypto/x509"

	"github.com/go-jose/go-jose/v4"

	"atcr.io/operator/appview/config/names"
)

// MaxVerifying bounds how many keys verify at once, MaxRetired how many of them sign no more: a verifier tries none by
// guess, but the files must stay small. A rotation beyond that waits for the oldest retired key's end.
const (
	MaxVerifying = 34
	MaxRetired   = MaxVerifying - 2
)

// Set is the keys of one AppView. Current signs; all verify. Next is published before it signs, so that every server
// knows it by then; Retired still verify the tokens that they signed.
type Set struct {
	Current   *Key
	Since     time.Time // when the current key began to sign
	Next      *Public
	Published time.Time // when the servers were given Next
	Retired   []Retired
	Revoked   []string  // kids that verify no more, which a server that has not loaded the set may still trust
	Changed   time.Time // when the servers were last given other keys
	// TokenLife is the longest that tokens were ever allowed to live. It does not shrink: nothing says when the last
	// server that was told the longer life is gone, and a retired key that verifies for some minutes more does no harm.
	TokenLife time.Duration
	Request   string // the last rotation that was asked for by hand and carried out
}

func (s *Set) clone() *Set {
	out := *s
	out.Retired, out.Revoked = slices.Clone(s.Retired), slices.Clone(s.Revoked)
	return &out
}

// Retired is a key that signs no more.
type Retired struct {
	Public
	Until time.Time // no token that it signed is valid after this; zero: a server may still sign with it
}

// Unsettled says that a server may still sign with a key that is retired, or trust one that is revoked.
func (s *Set) Unsettled() bool {
	return len(s.Revoked) > 0 || slices.ContainsFunc(s.Retired, func(k Retired) bool { return k.Until.IsZero() })
}

// Verifying is every key that verifies, the current one first.
func (s *Set) Verifying() []Public {
	keys := []Public{s.Current.Public()}
	if s.Next != nil {
		keys = append(keys, *s.Next)
	}
	for _, r := range s.Retired {
		keys = append(keys, r.Public)
	}
	return keys
}

// Hash names the set as the server's readiness does ([names.KeySetHash]).
func (s *Set) Hash() string {
	var kids []string
	for _, k := range s.Verifying() {
		kids = append(kids, k.Kid)
	}
	return names.KeySetHash(kids)
}

// Files are what the server mounts: the signing key, the certificates of every verifying key, and the same as a JWK set
// (RFC 7517).
func (s *Set) Files() (map[string][]byte, error) {
	private, err := encodePrivate(s.Current.Signer)
	if err != nil {
		return nil, err
	}
	var bundle bytes.Buffer
	var jwks jose.JSONWebKeySet
	for _, k := range s.Verifying() {
		if err := pem.Encode(&bundle, &pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate.Raw}); err != nil {
			return nil, fmt.Errorf("encoding the certificate of key %s: %w", k.Kid, err)
		}
		jwks.Keys = append(jwks.Keys, jose.JSONWebKey{
			Key: k.Certificate.PublicKey, KeyID: k.Kid, Algorithm: string(k.Algorithm), Use: "sig",
		})
	}
	set, err := json.Marshal(jwks)
	if err != nil {
		return nil, fmt.Errorf("encoding the key set: %w", err)
	}
	return map[string][]byte{
		names.FileSigningKey:  private,
		names.FileSigningCert: bundle.Bytes(),
		names.FileJWKS:        set,
	}, nil
}

// Parse reads the files that [Set.Files] wrote. The first certificate must be the current key's, and the JWK set must
// name the same keys. Keys after the first come back as Retired without an end: what they are is not in the files, but in
// the record ([Set.Recall]).
func Parse(files map[string][]byte) (*Set, error) {
	for _, f := range []string{names.FileSigningKey, names.FileSigningCert, names.FileJWKS} {
		if len(files[f]) == 0 {
			return nil, fmt.Errorf("%s is missing", f)
		}
	}
	signer, err := decodePrivate(files[names.FileSigningKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names.FileSigningKey, err)
	}
	certs, err := decodeBundle(files[names.FileSigningCert])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names.FileSigningCert, err)
	}
	current, err := newKey(signer, certs[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names.FileSigningCert, err)
	}
	s := &Set{Current: current}
	for i, c := range certs[1:] {
		p, err := newPublic(c)
		if err != nil {
			return nil, fmt.Errorf("%s, certificate %d: %w", names.FileSigningCert, i+2, err)
		}
		s.Retired = append(s.Retired, Retired{Public: p})
	}
	if err := s.matches(files[names.FileJWKS]); err != nil {
		return nil, fmt.Errorf("%s: %w", names.FileJWKS, err)
	}
	return s, nil
}

func (s *Set) matches(jwks []byte) error {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		return errors.New("not a JWK set")
	}
	var kids []string
	for _, k := range set.Keys {
		if !k.IsPublic() {
			return errors.New("a private key has no place in it")
		}
		kid, err := Thumbprint(k.Key)
		if err != nil {
			return err
		}
		if k.KeyID != kid {
			return errors.New("a kid is not the key's RFC 7638 thumbprint")
		}
		kids = append(kids, kid)
	}
	if names.KeySetHash(kids) != s.Hash() {
		return fmt.Errorf("names other keys than %s", names.FileSigningCert)
	}
	return nil
}

func decodeBundle(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if len(certs) == MaxVerifying {
			return nil, fmt.Errorf("more than %d certificates", MaxVerifying)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read", len(certs)+1)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	return certs, nil
}
