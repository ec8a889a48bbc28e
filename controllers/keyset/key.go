package keyset

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Algorithm is a JWS algorithm (RFC 7518 section 3.1).
type Algorithm string

const (
	ES256 Algorithm = "ES256" // ECDSA over P-256
	RS256 Algorithm = "RS256" // RSA of at least 2048 bits
)

// The certificate carries the public key to verifiers that read certificates. It is no statement about who we are, so
// it outlives every key.
const (
	certificateLife = 10 * 365 * 24 * time.Hour
	clockSkew       = time.Hour // how far a verifier's clock may be behind ours
	rsaBits         = 2048
)

// Key is one private key with its certificate.
type Key struct {
	Kid         string // RFC 7638 thumbprint, SHA-256, base64url
	Algorithm   Algorithm
	Signer      crypto.Signer
	Certificate *x509.Certificate // nil: an OAuth client's, as it was read back
}

// Public is the verifying half of a key.
type Public struct {
	Kid         string
	Algorithm   Algorithm
	Certificate *x509.Certificate
}

// Public is k without what signs.
func (k *Key) Public() Public {
	return Public{Kid: k.Kid, Algorithm: k.Algorithm, Certificate: k.Certificate}
}

// Generate makes a key and a self-signed certificate for it. An ES256 key takes microseconds, an RS256 key some 50 ms.
func Generate(random io.Reader, a Algorithm, commonName string, now time.Time) (*Key, error) {
	signer, err := generateSigner(random, a)
	if err != nil {
		return nil, fmt.Errorf("making an %s key: %w", a, err)
	}
	cert, err := certify(random, signer, commonName, now)
	if err != nil {
		return nil, err
	}
	return newKey(signer, cert)
}

// certify makes a self-signed certificate that outlives the key.
func certify(random io.Reader, signer crypto.Signer, commonName string, now time.Time) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	serial[0] &= 0x7f // a positive number, RFC 5280 section 4.1.2.2
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               subject(commonName),
		NotBefore:             now.Add(-clockSkew).UTC(),
		NotAfter:              now.Add(certificateLife).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(random, template, template, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back a certificate: %w", err)
	}
	return cert, nil
}

func generateSigner(random io.Reader, a Algorithm) (crypto.Signer, error) {
	switch a {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), random)
	case RS256:
		return rsa.GenerateKey(random, rsaBits)
	}
	return nil, fmt.Errorf("unknown algorithm %q", a)
}

func newKey(signer crypto.Signer, cert *x509.Certificate) (*Key, error) {
	pub, err := newPublic(cert)
	if err != nil {
		return nil, err
	}
	kid, err := Thumbprint(signer.Public())
	if err != nil {
		return nil, err
	}
	if kid != pub.Kid {
		return nil, errors.New("the first certificate is of another key than the private key")
	}
	return &Key{Kid: kid, Algorithm: pub.Algorithm, Signer: signer, Certificate: cert}, nil
}

// bareKey is a private key without a certificate.
func bareKey(block *pem.Block) (*Key, error) {
	signer, err := parsePrivate(block)
	if err != nil {
		return nil, err
	}
	a, err := algorithmOf(signer.Public())
	if err != nil {
		return nil, err
	}
	kid, err := Thumbprint(signer.Public())
	if err != nil {
		return nil, err
	}
	return &Key{Kid: kid, Algorithm: a, Signer: signer}, nil
}

func newPublic(cert *x509.Certificate) (Public, error) {
	a, err := algorithmOf(cert.PublicKey)
	if err != nil {
		return Public{}, err
	}
	kid, err := Thumbprint(cert.PublicKey)
	if err != nil {
		return Public{}, err
	}
	return Public{Kid: kid, Algorithm: a, Certificate: cert}, nil
}

func algorithmOf(public crypto.PublicKey) (Algorithm, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return ES256, nil
		}
		return "", errors.New("the curve must be P-256")
	case *rsa.PublicKey:
		if k.N.BitLen() >= rsaBits {
			return RS256, nil
		}
		return "", fmt.Errorf("an RSA key must have at least %d bits", rsaBits)
	}
	return "", errors.New("the key must be ECDSA P-256 or RSA")
}

// Thumbprint is the RFC 7638 thumbprint of a public key, SHA-256, base64url without padding: its kid.
func Thumbprint(public crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("computing the thumbprint of a key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// PrivatePEM is the key in PKCS#8 PEM.
func (k *Key) PrivatePEM() ([]byte, error) { return encodePrivate(k.Signer) }

func encodePrivate(signer crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodePrivate(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return parsePrivate(block)
}

// parsePrivate reads PKCS#8, and the PKCS#1 and SEC 1 forms that openssl writes. Errors never quote the input.
func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("not a private key in PKCS#8, PKCS#1 or SEC 1 form")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key that cannot sign")
	}
	return signer, nil
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
