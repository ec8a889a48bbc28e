// Package seal encrypts what the server stores about other people, and derives independent keys for other uses
// from the one sealing key that the operator gives to every replica.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize of a sealing key, in bytes.
const KeySize = 32

// ErrOpen: the bytes were not sealed by this key for this purpose and context. Nothing says which.
var ErrOpen = errors.New("sealed data does not open; was the sealing key changed?")

// Key is a sealing key. Its zero value is unusable.
type Key struct{ secret []byte }

// New takes 32 random bytes.
func New(secret []byte) (Key, error) {
	if len(secret) != KeySize {
		return Key{}, fmt.Errorf("a sealing key has %d bytes, not %d", KeySize, len(secret))
	}
	return Key{append([]byte(nil), secret...)}, nil
}

// Parse reads the file form: base64 (standard, padded) of 32 bytes, surrounding white space allowed.
func Parse(file []byte) (Key, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(file)))
	if err != nil {
		return Key{}, errors.New("a sealing key file is base64 of 32 random bytes; make one with: head -c 32 /dev/urandom | base64")
	}
	return New(b)
}

// Generate makes a key and its file form.
func Generate() (Key, []byte) {
	b := make([]byte, KeySize)
	rand.Read(b)
	return Key{b}, []byte(base64.StdEncoding.EncodeToString(b) + "\n")
}

// Derive is a 32-byte key for one purpose; keys of different purposes tell nothing of each other (HKDF-SHA256).
func (k Key) Derive(purpose string) []byte {
	if len(k.secret) != KeySize {
		panic("seal: zero Key")
	}
	out, err := hkdf.Key(sha256.New, k.secret, nil, "atcr.io/operator "+purpose, KeySize)
	if err != nil {
		panic("seal: " + err.Error()) // only for output lengths that HKDF cannot make
	}
	return out
}

// MAC authenticates data for one purpose (HMAC-SHA256).
func (k Key) MAC(purpose string, data ...[]byte) []byte {
	h := hmac.New(sha256.New, k.Derive(purpose))
	for _, d := range data {
		h.Write(d)
	}
	return h.Sum(nil)
}

// Box seals for one purpose with XChaCha20-Poly1305 and a random nonce.
type Box struct{ aead cipher.AEAD }

// Box makes one. It is safe for concurrent use.
func (k Key) Box(purpose string) Box {
	a, err := chacha20poly1305.NewX(k.Derive(purpose))
	if err != nil {
		panic("seal: " + err.Error()) // only for keys of another length
	}
	return Box{a}
}

// Seal encrypts plain. context (a row's key, say) is not stored but must be the same to open it.
func (b Box) Seal(plain []byte, context string) []byte {
	nonce := make([]byte, b.aead.NonceSize(), b.aead.NonceSize()+len(plain)+b.aead.Overhead())
	rand.Read(nonce)
	return b.aead.Seal(nonce, nonce, plain, []byte(context))
}

// Open decrypts, or fails with [ErrOpen].
func (b Box) Open(sealed []byte, context string) ([]byte, error) {
	n := b.aead.NonceSize()
	if len(sealed) < n {
		return nil, ErrOpen
	}
	plain, err := b.aead.Open(nil, sealed[:n], sealed[n:], []byte(context))
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}
