package hold

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/hold/xrpc"
)

// self is who the hold is.
type self struct {
	did    syntax.DID
	url    string // scheme://host[:port]
	handle string // host[:port], as other holds have it; no valid handle when there is a port
	key    atcrypto.PrivateKeyExportable
}

func newSelf(u *url.URL, key atcrypto.PrivateKeyExportable) self {
	return self{did: didOf(u), url: u.String(), handle: u.Host, key: key}
}

// document is the hold's DID document.
func (s self) document() (*diddoc.Document, error) {
	pub, err := s.key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("public key of the hold: %w", err)
	}
	did := s.did.String()
	return &diddoc.Document{
		Context:     []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"},
		ID:          did,
		AlsoKnownAs: []string{"at://" + s.handle},
		VerificationMethod: []diddoc.VerificationMethod{{
			ID: did + "#" + diddoc.KeyAtproto, Type: "Multikey", Controller: did, PublicKeyMultibase: pub.Multibase(),
		}},
		Service: []diddoc.Service{
			{ID: "#" + diddoc.ServicePDS, Type: diddoc.TypePDS, ServiceEndpoint: diddoc.Endpoint(s.url)},
			{ID: "#" + diddoc.ServiceHold, Type: diddoc.TypeHold, ServiceEndpoint: diddoc.Endpoint(s.url)},
		},
	}, nil
}

// serveDocument answers /.well-known/did.json.
func (s *Server) serveDocument(w http.ResponseWriter, _ *http.Request) {
	doc, err := s.self.document()
	if err != nil {
		xrpc.WriteError(w, err)
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	xrpc.WriteJSON(w, http.StatusOK, doc)
}

// serveAtprotoDID answers /.well-known/atproto-did.
func (s *Server) serveAtprotoDID(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(s.self.did))
}

// resolveHandle answers com.atproto.identity.resolveHandle, for the hold itself only.
func (s *Server) resolveHandle(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.URL.Query().Get("handle"), s.self.handle) {
		xrpc.WriteError(w, xrpc.Errorf(http.StatusBadRequest, "HandleNotFound",
			"This hold resolves no handle but its own, %s; ask a handle resolver.", s.self.handle))
		return
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]string{"did": s.self.did.String()})
}

// loadKey reads the hold's signing key, and makes it the first time.
func loadKey(path string) (atcrypto.PrivateKeyExportable, error) { return loadOrMakeKey("key", path) }

// loadOrMakeKey reads a private key in multibase form, and makes one of K-256 when there is none.
func loadOrMakeKey(what, path string) (atcrypto.PrivateKeyExportable, error) {
	_, err := secretFile(path, func() (string, error) {
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			return "", err
		}
		return key.Multibase(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("the hold's %s: %w", what, err)
	}
	return readKey(what, path)
}

// readKey reads a private key in multibase form.
func readKey(what, path string) (atcrypto.PrivateKeyExportable, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the hold's %s: %w", what, err)
	}
	key, err := atcrypto.ParsePrivateMultibase(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("the hold's %s file %s is not a multibase private key (K-256 or P-256)", what, path)
	}
	return key, nil
}

// secretFile reads a secret of one line, and makes it the first time, readable by its owner only.
func secretFile(path string, fresh func() (string, error)) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret, err := fresh()
		if err != nil {
			return "", err
		}
		if err := files.CreateOnce(path, []byte(secret+"\n"), 0o600); err != nil {
			return "", err
		}
		b, err = os.ReadFile(path) // what is in the file counts: somebody may have been faster
		return strings.TrimSpace(string(b)), err
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}
