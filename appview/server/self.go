package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config"
)

// tokenLife is how long a token lives that the AppView signs in its own name.
const tokenLife = time.Minute

// self is who the AppView is to holds: a did:web with a key.
type self struct {
	did syntax.DID
	url string
	key atcrypto.PrivateKey
}

// newSelf is nil for an AppView without a key.
func newSelf(cfg *config.Config, log *slog.Logger) (*self, error) {
	key, err := cfg.DIDKey(log)
	if err != nil || key == nil {
		return nil, err
	}
	did, err := ownDID(cfg)
	if err != nil {
		return nil, err
	}
	return &self{did, cfg.BaseURL, key}, nil
}

func ownDID(cfg *config.Config) (syntax.DID, error) {
	did, err := cfg.DID()
	if err != nil {
		return "", fmt.Errorf("the AppView's own DID: %w", err)
	}
	return did, nil
}

// sign makes a service token for one method of a hold.
func (s *self) sign(hold syntax.DID, method string) (string, error) {
	nsid := syntax.NSID(method)
	return auth.SignServiceAuth(s.did, string(hold), tokenLife, &nsid, s.key)
}

// ServeHTTP answers the AppView's DID document.
func (s *self) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	pub, err := s.key.PublicKey()
	if err != nil {
		http.Error(w, "The AppView's key has no public half.", http.StatusInternalServerError)
		return
	}
	did := string(s.did)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_ = json.NewEncoder(w).Encode(diddoc.Document{ // the client may have left
		Context: []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"},
		ID:      did,
		VerificationMethod: []diddoc.VerificationMethod{{
			ID: did + "#" + diddoc.KeyAtproto, Type: "Multikey", Controller: did, PublicKeyMultibase: pub.Multibase(),
		}},
		Service: []diddoc.Service{{ID: "#atcr_appview", Type: "AtcrAppView", ServiceEndpoint: diddoc.Endpoint(s.url)}},
	})
}
