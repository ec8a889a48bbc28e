package names

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// RuntimeVersion is the schema version that this release writes and reads.
const RuntimeVersion = 1

// Runtime is the hot-reloaded runtime file: what may change while the server runs, without a rollout.
// Environment variables are for what needs a restart. At most 1 MiB of JSON.
type Runtime struct {
	Version             int      `json:"version"`
	DefaultHoldDID      string   `json:"defaultHoldDID,omitempty"` // wins over ATCR_DEFAULT_HOLD_DID
	Holds               []Hold   `json:"holds,omitempty"`
	AllowedHosts        []string `json:"allowedHosts,omitempty"`        // host[:port], added to ATCR_ALLOWED_HOSTS
	AllowedPrivateCIDRs []string `json:"allowedPrivateCIDRs,omitempty"` // added to ATCR_ALLOWED_PRIVATE_CIDRS
	AllowedPrivatePorts []int    `json:"allowedPrivatePorts,omitempty"` // added to ATCR_ALLOWED_PRIVATE_PORTS

	CABundles map[string]string `json:"caBundles,omitempty"` // certificates in PEM, by a name that holds use
}

// Download says how clients get a blob of a hold.
type Download string

const (
	Redirect Download = "Redirect" // 307 to the hold's URL; the AppView moves no bytes
	Proxy    Download = "Proxy"    // clients cannot reach the hold: the AppView streams
)

// Hold is one hold that an operator configured. Its endpoint is trusted like configuration: private addresses and
// plain HTTP are allowed, provided that the did.json served there names the same DID.
type Hold struct {
	DID      string   `json:"did"`                // did:web with a port as %3A, or did:plc
	Endpoint string   `json:"endpoint,omitempty"` // where to reach it, scheme://host[:port]; from its DID document when empty
	Download Download `json:"download,omitempty"` // Redirect when empty
	CABundle string   `json:"caBundle,omitempty"` // name in caBundles of what its certificate is verified with, besides the system's roots
}

// ParseRuntime reads a runtime file strictly: an unknown field or version is an error, so that an old server never
// half-understands a new operator.
func ParseRuntime(b []byte) (*Runtime, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var r Runtime
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("runtime file: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("runtime file: more than one JSON value")
	}
	if r.Version != RuntimeVersion {
		return nil, fmt.Errorf("runtime file: version %d, this server reads version %d", r.Version, RuntimeVersion)
	}
	for i, h := range r.Holds {
		if !strings.HasPrefix(h.DID, "did:") {
			return nil, fmt.Errorf("runtime file: holds[%d].did %q is not a DID", i, h.DID)
		}
		if h.Download != "" && h.Download != Redirect && h.Download != Proxy {
			return nil, fmt.Errorf("runtime file: holds[%d].download %q, want Redirect or Proxy", i, h.Download)
		}
		if _, known := r.CABundles[h.CABundle]; h.CABundle != "" && !known {
			return nil, fmt.Errorf("runtime file: holds[%d].caBundle: there is no %q in caBundles", i, h.CABundle)
		}
	}
	for name, pem := range r.CABundles {
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) {
			return nil, fmt.Errorf("runtime file: caBundles: %q holds no certificate in PEM", name)
		}
	}
	return &r, nil
}

// Values of [Ready].Status.
const (
	StatusOK         = "ok"
	StatusStopping   = "stopping"
	StatusNoDatabase = "the database does not answer"
)

// Ready is the answer of [PathReady]. Status is [StatusOK], or says what the server waits for.
type Ready struct {
	Status      string `json:"status"`
	KeySetHash  string `json:"keySetHash"`  // [KeySetHash] of the loaded keys
	SigningKey  string `json:"signingKey"`  // kid of the one that signs
	RuntimeHash string `json:"runtimeHash"` // [RuntimeHash] of the loaded file; empty without one

	Backup   *BackupState   `json:"backup,omitempty"`   // nil: none are made
	Database *DatabaseState `json:"database,omitempty"` // nil: it is no file of this server
}

// DatabaseState says how large the SQLite database is. Without room reads go on, and what must be written is refused.
type DatabaseState struct {
	Bytes  int64 `json:"bytes"`            // its files
	Free   int64 `json:"free"`             // that its file system has left
	Schema int64 `json:"schema,omitempty"` // the version that its tables have; a release that knows only earlier ones refuses it
}

// BackupState says how the server's backups go.
type BackupState struct {
	Last   time.Time `json:"last,omitzero"`    // when the newest was made; zero: never
	Failed string    `json:"failed,omitempty"` // why the newest try failed: NoSpace or Failed; empty: it did not
}

// Why a backup failed.
const (
	BackupNoSpace = "NoSpace"
	BackupFailed  = "Failed"
)

// RuntimeHash is the lower-case hex SHA-256 of the runtime file's bytes.
func RuntimeHash(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}

// KeySetHash is the lower-case hex SHA-256 of the key ids, sorted, one a line: which keys verify, in any order.
func KeySetHash(kids []string) string {
	kids = slices.Sorted(slices.Values(kids))
	sum := sha256.Sum256([]byte(strings.Join(kids, "\n")))
	return hex.EncodeToString(sum[:])
}
