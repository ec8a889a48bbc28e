package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
)

// DID is the AppView's own did:web, of its base URL.
func (c *Config) DID() (syntax.DID, error) {
	_, host, _ := strings.Cut(c.BaseURL, "://")
	did, err := diddoc.CanonicalWebDID("did:web:" + host)
	return syntax.DID(did), err
}

// DIDKey loads the P-256 key of the AppView's own DID, and makes it when it is missing. Where ATCR_AUTH_KEY_REQUIRED
// forbids that, a missing key is an error only when ATCR_DID_KEY_PATH says where it should be; else there is none, and
// the AppView signs nothing in its own name. The same holds where the default place cannot be written.
func (c *Config) DIDKey(log *slog.Logger) (atcrypto.PrivateKey, error) {
	b, err := os.ReadFile(c.DIDKeyPath)
	if errors.Is(err, fs.ErrNotExist) {
		switch {
		case c.AuthKeyRequired && c.didKeySet:
			return nil, fmt.Errorf("%s=%s does not exist and %s=true forbids making one; mount the key there, or unset it", names.DIDKeyPath, c.DIDKeyPath, names.AuthKeyRequired)
		case c.AuthKeyRequired:
			return nil, nil
		}
		if err := makeDIDKey(c.DIDKeyPath); err != nil && !c.didKeySet {
			log.Warn("no key for the AppView's own DID: holds are told of pulls of readers who are logged in only", "error", err)
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("making the key of the AppView's DID (%s): %w", names.DIDKeyPath, err)
		}
		b, err = os.ReadFile(c.DIDKeyPath) // of several processes that start at once, all end with the same key
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key of the AppView's DID (%s): %w", names.DIDKeyPath, err)
	}
	key, err := parseDIDKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", names.DIDKeyPath, c.DIDKeyPath, err)
	}
	return key, nil
}

// CheckDIDKey loads the key as DIDKey does, but makes nothing, and says whether there would be one.
func (c *Config) CheckDIDKey() (bool, error) {
	if _, err := os.Stat(c.DIDKeyPath); errors.Is(err, fs.ErrNotExist) && !c.AuthKeyRequired {
		err := files.CheckCreatable(names.DIDKeyPath, c.DIDKeyPath)
		if !c.didKeySet {
			return err == nil, nil
		}
		return true, err
	}
	key, err := c.DIDKey(slog.New(slog.DiscardHandler))
	return key != nil, err
}

func makeDIDKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return files.CreateOnce(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// parseDIDKey reads PEM (PKCS #8 or SEC 1), or the multibase form that atproto tools write.
func parseDIDKey(b []byte) (atcrypto.PrivateKey, error) {
	want := errors.New("want a P-256 private key, as PEM or multibase")
	block, _ := pem.Decode(b)
	if block == nil {
		key, err := atcrypto.ParsePrivateMultibase(strings.TrimSpace(string(b)))
		if _, ok := key.(*atcrypto.PrivateKeyP256); err != nil || !ok {
			return nil, want
		}
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			return nil, want
		}
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, want
	}
	raw, err := key.Bytes()
	if err != nil {
		return nil, want
	}
	return atcrypto.ParsePrivateBytesP256(raw)
}
