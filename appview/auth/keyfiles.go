package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
)

// KeyFiles say where the keys are. A jwks.json beside the key may list more that verify.
type KeyFiles struct {
	KeyPath  string // ATCR_AUTH_KEY_PATH
	CertPath string // ATCR_AUTH_CERT_PATH
	Service  string // common name of a certificate that is made
	Kind     string // ecdsa or rsa, of a key that is made
	Required bool   // refuse to make a missing key: replicas must not invent their own
}

// Keys is the current [KeySet], replaced without dropping a request.
type Keys struct {
	files   KeyFiles
	log     *slog.Logger
	current atomic.Pointer[KeySet]
	bytes   atomic.Pointer[[]byte]
	observe atomic.Pointer[func(error)]
}

// OpenKeys loads the keys, and makes what is missing unless that is refused.
func OpenKeys(f KeyFiles, log *slog.Logger) (*Keys, error) {
	if err := f.make(); err != nil {
		return nil, err
	}
	k := &Keys{files: f, log: log}
	if _, err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// CheckKeys loads the keys as [OpenKeys] does, but makes nothing: nil without an error when the key would be made.
func CheckKeys(f KeyFiles) (*KeySet, error) {
	if !f.Required {
		if err := errors.Join(files.CheckCreatable(names.AuthKeyPath, f.KeyPath), files.CheckCreatable(names.AuthCertPath, f.CertPath)); err != nil {
			return nil, err
		}
		if _, err := os.Stat(f.KeyPath); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	f.Required = true
	k, err := OpenKeys(f, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return k.Set(), nil
}

// Set is the set to use for one request.
func (k *Keys) Set() *KeySet { return k.current.Load() }

// Reload reads the files again and says whether the set changed. A set that does not load leaves the last good one
// in place.
func (k *Keys) Reload() (changed bool, err error) {
	key, err := os.ReadFile(k.files.KeyPath)
	if err != nil {
		return false, fmt.Errorf("reading the signing key (%s): %w", names.AuthKeyPath, err)
	}
	cert, err := readOptional(k.files.CertPath)
	if err != nil {
		return false, fmt.Errorf("reading the certificate bundle (%s): %w", names.AuthCertPath, err)
	}
	jwks, err := readOptional(filepath.Join(filepath.Dir(k.files.KeyPath), names.FileJWKS))
	if err != nil {
		return false, fmt.Errorf("reading the JWK set: %w", err)
	}
	all := bytes.Join([][]byte{key, cert, jwks}, []byte{0})
	if old := k.bytes.Load(); old != nil && bytes.Equal(*old, all) {
		return false, nil
	}
	set, err := NewKeySet(key, cert, jwks)
	if err != nil {
		return false, fmt.Errorf("%s=%s: %w", names.AuthKeyPath, k.files.KeyPath, err)
	}
	k.current.Store(set)
	k.bytes.Store(&all)
	k.log.Info("token keys loaded", "signs", set.SignerKID(), "verify", len(set.public), "hash", set.Hash())
	return true, nil
}

// Observe has f told of each later reload by [Keys.Watch]: nil when other keys were loaded, or why they were not.
func (k *Keys) Observe(f func(error)) { k.observe.Store(&f) }

// Watch reloads when a file changes.
func (k *Keys) Watch(w *files.Watcher) {
	reload := func() {
		changed, err := k.Reload()
		if err != nil {
			k.log.Error("token keys did not load; the last good ones stay", "error", err)
		}
		if f := k.observe.Load(); f != nil && (changed || err != nil) {
			(*f)(err)
		}
	}
	w.Add(filepath.Dir(k.files.KeyPath), reload)
	if d := filepath.Dir(k.files.CertPath); d != filepath.Dir(k.files.KeyPath) {
		w.Add(d, reload)
	}
}

// ServeHTTP answers the public keys as a JWK set.
func (k *Keys) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=60")
	json.NewEncoder(w).Encode(k.Set().JWKS()) //nolint:errcheck // the client is gone
}

// readOptional is nil for a file that is not there, and not nil for one that is empty.
func readOptional(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// make creates what is missing. Of several processes that start at once, all end with the same key.
func (f KeyFiles) make() error {
	_, err := os.Stat(f.KeyPath)
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading the signing key (%s): %w", names.AuthKeyPath, err)
	case f.Required:
		return fmt.Errorf("%s=%s does not exist and %s=true forbids making one; mount the key there", names.AuthKeyPath, f.KeyPath, names.AuthKeyRequired)
	default:
		key, err := generate(f.Kind)
		if err != nil {
			return err
		}
		if err := files.CreateOnce(f.KeyPath, key, 0o600); err != nil {
			return fmt.Errorf("making the signing key (%s): %w", names.AuthKeyPath, err)
		}
	}
	if _, err := os.Stat(f.CertPath); err == nil || f.Required {
		return nil
	}
	key, err := os.ReadFile(f.KeyPath)
	if err != nil {
		return fmt.Errorf("reading the signing key (%s): %w", names.AuthKeyPath, err)
	}
	private, err := parsePrivateKey(key)
	if err != nil {
		return fmt.Errorf("%s=%s: %w", names.AuthKeyPath, f.KeyPath, err)
	}
	cert, err := selfSigned(private, f.Service)
	if err != nil {
		return err
	}
	if err := files.CreateOnce(f.CertPath, cert, 0o644); err != nil {
		return fmt.Errorf("making the certificate (%s): %w", names.AuthCertPath, err)
	}
	return nil
}

func generate(kind string) ([]byte, error) {
	var key any
	var err error
	if kind == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, minRSABits)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// selfSigned wraps the public key for readers that want certificates; nothing checks its dates.
func selfSigned(key crypto.Signer, name string) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
