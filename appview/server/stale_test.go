package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
)

// accounts calls PDS and hold as the accounts themselves would, without the registry.
type accounts struct {
	*servertest.World
	t *testing.T
}

func (a accounts) xrpc(base, bearer, method string, in, out any) int {
	a.t.Helper()
	verb, body := http.MethodGet, io.Reader(nil)
	if in != nil {
		b, err := json.Marshal(in)
		require.NoError(a.t, err)
		verb, body = http.MethodPost, bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), verb, base+"/xrpc/"+method, body)
	require.NoError(a.t, err)
	req.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(a.t, err)
	defer resp.Body.Close()
	if out != nil && resp.StatusCode == http.StatusOK {
		require.NoError(a.t, json.NewDecoder(resp.Body).Decode(out))
	}
	return resp.StatusCode
}

// session is a session at the PDS, by the account's own password.
func (a accounts) session(handle string) string {
	a.t.Helper()
	var out struct{ AccessJwt string }
	status := a.xrpc(a.Devnet.URL(), "", "com.atproto.server.createSession", map[string]string{"identifier": handle, "password": a.Account(handle).Password}, &out)
	require.Equal(a.t, http.StatusOK, status)
	return out.AccessJwt
}

// hold calls a method of the hold as its captain.
func (a accounts) hold(method string, in, out any) {
	a.t.Helper()
	var token struct{ Token string }
	a.xrpc(a.Devnet.URL(), a.session(servertest.Alice), "com.atproto.server.getServiceAuth?aud="+url.QueryEscape(string(a.HoldDID())), nil, &token)
	require.Equal(a.t, http.StatusOK, a.xrpc(a.HoldURL, token.Token, method, in, out), method)
}

func (a accounts) revoke(handle string) {
	a.t.Helper()
	session := a.session(handle)
	var list struct{ Passwords []struct{ Name string } }
	require.Equal(a.t, http.StatusOK, a.xrpc(a.Devnet.URL(), session, "com.atproto.server.listAppPasswords", nil, &list))
	require.NotEmpty(a.t, list.Passwords)
	for _, p := range list.Passwords {
		require.Equal(a.t, http.StatusOK, a.xrpc(a.Devnet.URL(), session, "com.atproto.server.revokeAppPassword", p, nil))
	}
}

// login asks for a token with the account's app password and gives the status.
func (a accounts) login(handle, password string) int {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.URL+"/auth/token", nil)
	require.NoError(a.t, err)
	req.SetBasicAuth(handle, password)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(a.t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

func (a accounts) redeem(refresh string) int {
	a.t.Helper()
	resp, err := http.PostForm(a.URL+"/auth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {"test"}})
	require.NoError(a.t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

// The table of security.md: each line is one of these, measured with the AppView's clock.
func TestWhatIsTakenAwayIsGoneWithinItsTime(t *testing.T) {
	const life = 5 * time.Minute
	start := func(t *testing.T, hold map[string]string) (accounts, *clock, digest.Digest) {
		c := &clock{}
		w := servertest.Start(t, servertest.Options{Now: c.now, HoldEnv: hold, AppViewEnv: map[string]string{names.TokenExpiration: fmt.Sprint(int(life.Seconds()))}})
		layer := push(t, w, app, []byte("layer"))
		require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifestOf(layer, layer, 5, 5)).StatusCode)
		return accounts{w, t}, c, layer
	}
	pull := "repository:" + app + ":pull"
	private := map[string]string{names.HoldPublic: "false"}

	t.Run("a member is put out of the crew: 20 seconds", func(t *testing.T) {
		a, c, layer := start(t, private)
		crew := func(do string, more map[string]any) {
			in := map[string]any{"repo": a.HoldDID(), "collection": "io.atcr.hold.crew", "rkey": "bob"}
			for k, v := range more {
				in[k] = v
			}
			a.hold("com.atproto.repo."+do, in, nil)
		}
		crew("putRecord", map[string]any{"record": map[string]any{"$type": "io.atcr.hold.crew", "member": a.Account(servertest.Bob).DID,
			"role": "member", "permissions": []string{"blob:read"}, "addedAt": "2026-01-01T00:00:00.000Z"}})
		bob := client{t, a.Token(servertest.Bob, pull)}
		get := func() int {
			return bob.do(a.World, http.MethodGet, "/v2/"+app+"/blobs/"+string(layer), nil).StatusCode
		}
		require.Equal(t, http.StatusTemporaryRedirect, get())
		crew("deleteRecord", nil)
		c.advance(20 * time.Second)
		require.Equal(t, http.StatusForbidden, get())
	})

	t.Run("a hold is made private: 20 seconds", func(t *testing.T) {
		a, c, layer := start(t, nil)
		nobody := client{t, a.Token("", pull)}
		get := func() int {
			return nobody.do(a.World, http.MethodGet, "/v2/"+app+"/blobs/"+string(layer), nil).StatusCode
		}
		require.Equal(t, http.StatusTemporaryRedirect, get())
		a.hold("com.atproto.repo.putRecord", map[string]any{"repo": a.HoldDID(), "collection": "io.atcr.hold.captain", "rkey": "self", "record": map[string]any{
			"$type": "io.atcr.hold.captain", "owner": a.Account(servertest.Alice).DID, "public": false, "allowAllCrew": true, "enableBlueskyPosts": false,
			"deployedAt": "2026-01-01T00:00:00.000Z"}}, nil)
		c.advance(20 * time.Second)
		require.Equal(t, http.StatusUnauthorized, get())
	})

	t.Run("an app password is revoked: five minutes for logins and refresh tokens", func(t *testing.T) {
		a, c, _ := start(t, nil)
		password := a.Account(servertest.Alice).AppPassword
		refresh := tokenForm(t, a.World, url.Values{"grant_type": {"password"}, "access_type": {"offline"}, "client_id": {"test"},
			"username": {servertest.Alice}, "password": {password}}).Refresh
		require.Equal(t, http.StatusOK, a.redeem(refresh))
		require.Equal(t, http.StatusOK, a.login(servertest.Alice, password))
		a.revoke(servertest.Alice)
		c.advance(5 * time.Minute)
		require.Equal(t, http.StatusUnauthorized, a.login(servertest.Alice, password))
		require.Equal(t, http.StatusUnauthorized, a.redeem(refresh))
		c.advance(-4 * time.Minute)
		require.Equal(t, http.StatusUnauthorized, a.redeem(refresh), "and it is forgotten, not only refused")
	})

	t.Run("a session is deleted at the PDS: five minutes for its refresh tokens", func(t *testing.T) {
		a, c, _ := start(t, nil)
		password := a.Account(servertest.Alice).AppPassword
		refresh := tokenForm(t, a.World, url.Values{"grant_type": {"password"}, "access_type": {"offline"}, "client_id": {"test"},
			"username": {servertest.Alice}, "password": {password}}).Refresh
		require.NoError(t, a.Devnet.EndSessions(t.Context(), a.Account(servertest.Alice).DID))
		c.advance(5 * time.Minute)
		require.Equal(t, http.StatusUnauthorized, a.redeem(refresh))
		require.Equal(t, http.StatusOK, a.login(servertest.Alice, password), "the password is still good")
	})

	t.Run("a token runs out: its life, and a minute for clocks", func(t *testing.T) {
		a, c, _ := start(t, nil)
		alice := client{t, a.Token(servertest.Alice, "repository:"+app+":pull,push")}
		require.NotEmpty(t, alice.digestOf(a.World, "v1"), "it is remembered as verified")
		c.advance(life + time.Minute + time.Second)
		for _, r := range [][2]string{{http.MethodGet, "/manifests/v1"}, {http.MethodPost, "/blobs/uploads/"}} {
			resp := alice.do(a.World, r[0], "/v2/"+app+r[1], nil)
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
			require.Contains(t, resp.Header.Get("WWW-Authenticate"), "invalid_token")
		}
	})

	t.Run("an account loses its handle: five minutes, for tokens it has too", func(t *testing.T) {
		a, c, _ := start(t, nil)
		old := client{t, a.Token(servertest.Alice, "repository:"+app+":pull,push")}
		require.NoError(t, a.Devnet.Rename(t.Context(), a.Account(servertest.Bob).DID, servertest.Alice))
		c.advance(5 * time.Minute)
		resp := old.do(a.World, http.MethodPost, "/v2/"+app+"/blobs/uploads/", nil)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusForbidden, resp.StatusCode, "%s", b)
		require.True(t, strings.Contains(string(b), "somebody else"), "%s", b)
	})
}
