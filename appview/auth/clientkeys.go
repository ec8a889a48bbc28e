package auth

import (
	"crypto/ecdsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/go-jose/go-jose/v4"
)

// ClientKeysPath is where the public halves of the OAuth client's keys are, for users' authorization servers.
const ClientKeysPath = "/oauth/jwks.json"

// ClientKeys are the keys of the OAuth client, the newest first: it begins sessions. A session ends with the key that it
// began with, so earlier keys stay until whoever provides them takes them away.
type ClientKeys struct {
	private []*ecdsa.PrivateKey
	public  []byte // JWK set
}

// ReadClientKeys reads private keys on P-256 in PEM, one after the other. A file that is not there is no error: nil, and
// nothing is published.
func ReadClientKeys(path string) (*ClientKeys, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the OAuth client's keys: %w", err)
	}
	k := &ClientKeys{}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	ids := &KeySet{public: map[string]jose.JSONWebKey{}}
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		signer, err := parsePrivateKey(pem.EncodeToMemory(block))
		if err != nil {
			return nil, fmt.Errorf("the OAuth client's keys, %s, key %d: %w", path, len(k.private)+1, err)
		}
		private, ok := signer.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("the OAuth client's keys, %s, key %d: it must be EC P-256", path, len(k.private)+1)
		}
		public, err := ids.add(private.Public())
		if err != nil {
			return nil, fmt.Errorf("the OAuth client's keys, %s, key %d: %w", path, len(k.private)+1, err)
		}
		k.private = append(k.private, private)
		set.Keys = append(set.Keys, public)
	}
	if len(k.private) == 0 {
		return nil, fmt.Errorf("the OAuth client's keys: %s has no PEM block; put a private key on P-256 there, or remove the file", path)
	}
	if k.public, err = json.Marshal(set); err != nil {
		return nil, fmt.Errorf("the OAuth client's keys: %w", err)
	}
	return k, nil
}

// ServeHTTP answers with the public halves (RFC 7517).
func (k *ClientKeys) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "max-age=300")
	w.Write(k.public)
}
