package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
)

// tokens are the two JWTs of a session; sealed in the store.
type tokens struct {
	Access  string `json:"a"`
	Refresh string `json:"r"`
}

// fallbacks for a PDS whose tokens are no JWTs with exp.
const (
	opaqueAccessLife  = 5 * time.Minute
	opaqueRefreshLife = 24 * time.Hour
)

func (t tokens) expiry(now time.Time) (access, refresh time.Time) {
	access, err := atproto.ExpiryOf(t.Access)
	if err != nil {
		access = now.Add(opaqueAccessLife)
	}
	refresh, err = atproto.ExpiryOf(t.Refresh)
	if err != nil {
		refresh = now.Add(opaqueRefreshLife)
	}
	return access, refresh
}

// create calls com.atproto.server.createSession. [atproto.ErrUnauthorized] means that the password is wrong.
func (m *Manager) create(ctx context.Context, who *atproto.Identity, password string) (tokens, error) {
	body, err := json.Marshal(map[string]string{"identifier": string(who.DID), "password": password})
	if err != nil {
		return tokens{}, fmt.Errorf("createSession: %w", err)
	}
	return m.exchange(ctx, who.PDSEndpoint, "com.atproto.server.createSession", "", body, who.DID)
}

// refresh calls com.atproto.server.refreshSession. [atproto.ErrUnauthorized] means that the session is over.
func (m *Manager) refresh(ctx context.Context, pds string, did syntax.DID, old tokens) (tokens, error) {
	return m.exchange(ctx, pds, "com.atproto.server.refreshSession", old.Refresh, nil, did)
}

func (m *Manager) exchange(ctx context.Context, pds, method, bearer string, body []byte, did syntax.DID) (tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, pds+"/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		return tokens{}, fmt.Errorf("%s: %w", method, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return tokens{}, fmt.Errorf("%s: %w: the PDS of %s: %s", method, atproto.ErrUnavailable, did, diddoc.Class(err))
	}
	defer resp.Body.Close()
	var out struct {
		DID     string `json:"did"`
		Access  string `json:"accessJwt"`
		Refresh string `json:"refreshJwt"`
		Active  *bool  `json:"active"`
	}
	if err := atproto.DecodeAnswer(method, resp, &out); err != nil {
		return tokens{}, err
	}
	switch {
	case out.DID != string(did):
		return tokens{}, fmt.Errorf("%s: %w: the PDS made a session for another account", method, atproto.ErrUnauthorized)
	case out.Access == "" || out.Refresh == "":
		return tokens{}, fmt.Errorf("%s: %w: the PDS answered no tokens", method, atproto.ErrUnavailable)
	case out.Active != nil && !*out.Active:
		return tokens{}, fmt.Errorf("%s: %w: the account is not active", method, atproto.ErrUnauthorized)
	}
	return tokens{out.Access, out.Refresh}, nil
}

// expired says whether a PDS refused resp's request for its access token alone. The reference PDS answers 400
// ExpiredToken where others answer 401. The body, up to 64 KiB of it, can still be read afterwards.
func expired(resp *http.Response) bool {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusBadRequest {
		return false
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, diddoc.MaxBody))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
	var e struct {
		Error string `json:"error"`
	}
	return resp.StatusCode == http.StatusUnauthorized || json.Unmarshal(b, &e) == nil && e.Error == "ExpiredToken"
}
