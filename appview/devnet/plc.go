package devnet

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	cbor "github.com/ipfs/go-ipld-cbor"
	"github.com/multiformats/go-multihash"

	"atcr.io/operator/appview/pds"
)

const maxOperationBytes = 64 << 10

// operation is a did:plc operation, the whole state of an identity: https://web.plc.directory/spec/v0.1/did-plc
type operation struct {
	Type                string                `json:"type"`
	RotationKeys        []string              `json:"rotationKeys"`
	VerificationMethods map[string]string     `json:"verificationMethods"`
	AlsoKnownAs         []string              `json:"alsoKnownAs"`
	Services            map[string]plcService `json:"services"`
	Prev                *string               `json:"prev"`
	Sig                 string                `json:"sig,omitempty"`
}

type plcService struct {
	Type     string `json:"type"`
	Endpoint string `json:"endpoint"`
}

// bytes is the operation's DAG-CBOR; with the signature it is what DIDs and CIDs are made of, without what is signed.
func (op operation) bytes(signed bool) ([]byte, error) {
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

func (op *operation) sign(key atcrypto.PrivateKey) error {
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

// signedByOne checks the signature against the rotation keys.
func (op operation) signedByOne(rotationKeys []string) error {
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

// did of a genesis operation: the first 24 characters of the base32 of its hash.
func (op operation) did() (syntax.DID, error) {
	raw, err := op.bytes(true)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return syntax.DID("did:plc:" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:24]), nil
}

func (op operation) cid() (string, error) {
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

// same reports whether two operations describe the same identity.
func (op operation) same(other operation) bool {
	op.Prev, op.Sig, other.Prev, other.Sig = nil, "", nil, ""
	a, errA := op.bytes(false)
	b, errB := other.bytes(false)
	return errA == nil && errB == nil && string(a) == string(b)
}

// document is the DID document of an operation.
func (op operation) document(did syntax.DID) map[string]any {
	methods := []any{}
	for _, name := range sortedKeys(op.VerificationMethods) {
		methods = append(methods, map[string]any{
			"id": string(did) + "#" + name, "type": "Multikey", "controller": did,
			"publicKeyMultibase": strings.TrimPrefix(op.VerificationMethods[name], "did:key:"),
		})
	}
	services := []any{}
	for _, name := range sortedKeys(op.Services) {
		services = append(services, map[string]any{"id": "#" + name, "type": op.Services[name].Type, "serviceEndpoint": op.Services[name].Endpoint})
	}
	return map[string]any{
		"@context": []string{
			"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1", "https://w3id.org/security/suites/secp256k1-2019/v1",
		},
		"id": did, "alsoKnownAs": op.AlsoKnownAs, "verificationMethod": methods, "service": services,
	}
}

// plcLog is the directory's store: every operation of every DID.
type plcLog struct{ db *sql.DB }

var errNotRegistered = errors.New("DID not registered")

func (l plcLog) latest(ctx context.Context, did syntax.DID) (operation, string, error) {
	var op operation
	var raw, c string
	err := l.db.QueryRowContext(ctx, `SELECT operation, cid FROM plc_operation WHERE did = ? ORDER BY seq DESC LIMIT 1`, did).Scan(&raw, &c)
	if errors.Is(err, sql.ErrNoRows) {
		return op, "", fmt.Errorf("%w: %s", errNotRegistered, did)
	}
	if err != nil {
		return op, "", fmt.Errorf("look up %s: %w", did, err)
	}
	if err := json.Unmarshal([]byte(raw), &op); err != nil {
		return op, "", fmt.Errorf("decode the operation of %s: %w", did, err)
	}
	return op, c, nil
}

// invalidOperation is an operation that the directory does not take.
type invalidOperation string

func (e invalidOperation) Error() string { return string(e) }

// add takes a genesis operation, or one that follows the latest.
func (l plcLog) add(ctx context.Context, did syntax.DID, op operation) error {
	if op.Type != "plc_operation" {
		return invalidOperation("the type must be plc_operation")
	}
	last, lastCID, err := l.latest(ctx, did)
	rotationKeys := last.RotationKeys
	switch {
	case errors.Is(err, errNotRegistered):
		if want, err := op.did(); err != nil || want != did || op.Prev != nil {
			return invalidOperation("the first operation of a DID must have no prev and hash to the DID")
		}
		rotationKeys = op.RotationKeys
	case err != nil:
		return err
	case op.Prev == nil || *op.Prev != lastCID:
		return invalidOperation("prev must be the latest operation")
	}
	if err := op.signedByOne(rotationKeys); err != nil {
		return invalidOperation(err.Error())
	}
	raw, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("encode a PLC operation: %w", err)
	}
	c, err := op.cid()
	if err != nil {
		return err
	}
	_, err = l.db.ExecContext(ctx, `INSERT INTO plc_operation (did, cid, operation, created_at) VALUES (?, ?, ?, ?)`,
		did, c, string(raw), time.Now().UTC().Format(time.RFC3339Nano))
	if err != nil {
		return fmt.Errorf("store a PLC operation: %w", err)
	}
	return nil
}

// servePLC answers GET /{did}, /{did}/data, /{did}/log and POST /{did}.
func (n *Net) servePLC(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	name, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	did, err := syntax.ParseDID(name)
	if err != nil {
		plcError(w, http.StatusBadRequest, "not a DID")
		return
	}
	if r.Method == http.MethodPost && what == "" {
		n.registerPLC(w, r, did)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		plcError(w, http.StatusMethodNotAllowed, "use GET or POST")
		return
	}
	op, _, err := n.plc.latest(r.Context(), did)
	switch {
	case errors.Is(err, errNotRegistered):
		plcError(w, http.StatusNotFound, err.Error())
	case err != nil:
		n.log.Error("the PLC directory failed", "error", err)
		plcError(w, http.StatusInternalServerError, "Internal Server Error")
	case what == "":
		w.Header().Set("Content-Type", "application/did+ld+json")
		_ = json.NewEncoder(w).Encode(op.document(did)) // the client is gone when this fails
	case what == "data":
		pds.WriteJSON(w, http.StatusOK, map[string]any{
			"did": did, "verificationMethods": op.VerificationMethods, "rotationKeys": op.RotationKeys,
			"alsoKnownAs": op.AlsoKnownAs, "services": op.Services,
		})
	case what == "log/last":
		pds.WriteJSON(w, http.StatusOK, op)
	default:
		plcError(w, http.StatusNotFound, "not found")
	}
}

func (n *Net) registerPLC(w http.ResponseWriter, r *http.Request, did syntax.DID) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOperationBytes))
	var op operation
	if err != nil || json.Unmarshal(raw, &op) != nil {
		plcError(w, http.StatusBadRequest, "the body is not an operation")
		return
	}
	err = n.plc.add(r.Context(), did, op)
	var invalid invalidOperation
	switch {
	case errors.As(err, &invalid):
		plcError(w, http.StatusBadRequest, invalid.Error())
	case err != nil:
		n.log.Error("the PLC directory failed", "error", err)
		plcError(w, http.StatusInternalServerError, "Internal Server Error")
	default:
		w.WriteHeader(http.StatusOK)
	}
}

func plcError(w http.ResponseWriter, status int, message string) {
	pds.WriteJSON(w, status, map[string]string{"message": message})
}
