package plc

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	cbor "github.com/ipfs/go-ipld-cbor"
	"github.com/multiformats/go-multihash"
)

// TypeOperation is the type of an [Operation].
const TypeOperation = "plc_operation"

// Operation is a did:plc operation: the whole state of an identity. Keys are did:key strings.
type Operation struct {
	Type                string             `json:"type"`
	RotationKeys        []string           `json:"rotationKeys"`
	VerificationMethods map[string]string  `json:"verificationMethods"`
	AlsoKnownAs         []string           `json:"alsoKnownAs"`
	Services            map[string]Service `json:"services"`
	Prev                *string            `json:"prev"` // CID of the operation before; nil for the first one
	Sig                 string             `json:"sig,omitempty"`
}

// Service is one service of an identity.
type Service struct {
	Type     string `json:"type"`
	Endpoint string `json:"endpoint"`
}

// bytes is the operation's DAG-CBOR; with the signature it is what DIDs and CIDs are made of, without what is signed.
func (op Operation) bytes(signed bool) ([]byte, error) {
	raw, err := json.Marshal(op)
	if err != nil {
		return nil, fmt.Errorf("encode a PLC operation: %w", err)
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("encode a PLC operation: %w", err)
	}
	if !signed {
		delete(object, "sig")
	}
	out, err := cbor.DumpObject(object)
	if err != nil {
		return nil, fmt.Errorf("encode a PLC operation: %w", err)
	}
	return out, nil
}

// Sign signs the operation with one of the rotation keys of the operation before it, or of itself when it is the first.
func (op *Operation) Sign(key atcrypto.PrivateKey) error {
	raw, err := op.bytes(false)
	if err != nil {
		return err
	}
	sig, err := key.HashAndSign(raw)
	if err != nil {
		return fmt.Errorf("sign a PLC operation: %w", err)
	}
	op.Sig = base64.RawURLEncoding.EncodeToString(sig)
	return nil
}

// SignedByOne checks the signature against the rotation keys.
func (op Operation) SignedByOne(rotationKeys []string) error {
	sig, err := base64.RawURLEncoding.DecodeString(op.Sig)
	if err != nil {
		return errors.New("the signature is not base64url")
	}
	raw, err := op.bytes(false)
	if err != nil {
		return err
	}
	for _, k := range rotationKeys {
		key, err := atcrypto.ParsePublicDIDKey(k)
		if err == nil && key.HashAndVerify(raw, sig) == nil {
			return nil
		}
	}
	return errors.New("the signature is by none of the rotation keys")
}

// DID of a signed first operation: the first 24 characters of the base32 of its hash.
func (op Operation) DID() (syntax.DID, error) {
	raw, err := op.bytes(true)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return syntax.DID("did:plc:" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:24]), nil
}

// CID of a signed operation, by which the next one names it.
func (op Operation) CID() (string, error) {
	raw, err := op.bytes(true)
	if err != nil {
		return "", err
	}
	c, err := cid.NewPrefixV1(cid.DagCBOR, multihash.SHA2_256).Sum(raw)
	if err != nil {
		return "", fmt.Errorf("hash a PLC operation: %w", err)
	}
	return c.String(), nil
}

// Same reports whether two operations describe the same identity.
func (op Operation) Same(other Operation) bool {
	op.Prev, op.Sig, other.Prev, other.Sig = nil, "", nil, ""
	a, errA := op.bytes(false)
	b, errB := other.bytes(false)
	return errA == nil && errB == nil && string(a) == string(b)
}
