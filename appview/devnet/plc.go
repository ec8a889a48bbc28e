package devnet

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/plc"
	"atcr.io/operator/appview/pds"
)

const maxOperationBytes = 64 << 10

// document is the DID document of an operation.
func document(op plc.Operation, did syntax.DID) map[string]any {
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

func (l plcLog) latest(ctx context.Context, did syntax.DID) (plc.Operation, string, error) {
	var op plc.Operation
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
func (l plcLog) add(ctx context.Context, did syntax.DID, op plc.Operation) error {
	if op.Type != plc.TypeOperation {
		return invalidOperation("the type must be plc_operation")
	}
	last, lastCID, err := l.latest(ctx, did)
	rotationKeys := last.RotationKeys
	switch {
	case errors.Is(err, errNotRegistered):
		if want, err := op.DID(); err != nil || want != did || op.Prev != nil {
			return invalidOperation("the first operation of a DID must have no prev and hash to the DID")
		}
		rotationKeys = op.RotationKeys
	case err != nil:
		return err
	case op.Prev == nil || *op.Prev != lastCID:
		return invalidOperation("prev must be the latest operation")
	}
	if err := op.SignedByOne(rotationKeys); err != nil {
		return invalidOperation(err.Error())
	}
	raw, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("encode a PLC operation: %w", err)
	}
	c, err := op.CID()
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
		_ = json.NewEncoder(w).Encode(document(op, did)) // the client is gone when this fails
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
	var op plc.Operation
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
