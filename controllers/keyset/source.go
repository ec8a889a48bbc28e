package keyset

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"time"
)

// Errors of a provided key, besides others that say what is wrong with it. None quotes the input.
var (
	ErrExpired  = errors.New("the certificate has expired")
	ErrMismatch = errors.New("the certificate is of another key")
)

// ParseProvided reads a key that somebody else made: EC P-256, or RSA of 2048 bits or more. Without a certificate one is
// made, which never ends. end is when the certificate expires; zero for one that was made. With [ErrExpired] the key is
// returned too.
func ParseProvided(keyPEM, certPEM []byte, commonName string, now time.Time) (key *Key, end time.Time, err error) {
	signer, err := decodePrivate(keyPEM)
	if err != nil {
		return nil, end, err
	}
	if _, err := algorithmOf(signer.Public()); err != nil {
		return nil, end, err
	}
	var cert *x509.Certificate
	if len(certPEM) == 0 {
		cert, err = certify(rand.Reader, signer, commonName, now)
	} else {
		cert, err = firstCertificate(certPEM)
		if err == nil {
			end = cert.NotAfter
		}
	}
	if err != nil {
		return nil, end, err
	}
	if key, err = newKey(signer, cert); err != nil {
		return nil, end, ErrMismatch
	}
	if !end.IsZero() && now.After(end) {
		return key, end, ErrExpired
	}
	return key, end, nil
}

// CheckP256 says what is wrong with a private key that must be one of EC P-256.
func CheckP256(keyPEM []byte) error {
	signer, err := decodePrivate(keyPEM)
	if err != nil {
		return err
	}
	if algorithm, err := algorithmOf(signer.Public()); err != nil || algorithm != ES256 {
		return errors.New("must be EC P-256")
	}
	return nil
}

// firstCertificate is the leaf of a chain.
func firstCertificate(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("the certificate cannot be read")
	}
	return cert, nil
}

func subject(commonName string) pkix.Name { return pkix.Name{CommonName: clip(commonName, 64)} }
