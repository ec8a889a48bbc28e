package auth_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/devnet"
)

// offline logs in as docker login does: with GET, and wants a refresh token.
func (r *registry) offline(t *testing.T, user, password string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+auth.TokenPath+"?"+url.Values{
		"account": {user}, "client_id": {"docker"}, "offline_token": {"true"}, "service": {service}}.Encode(), nil)
	require.NoError(t, err)
	req.SetBasicAuth(user, password)
	return r.do(t, req)
}

func (r *registry) redeem(t *testing.T, token string, more url.Values) answer {
	t.Helper()
	f := url.Values{"grant_type": {"refresh_token"}, "service": {service}, "client_id": {"docker"}, "refresh_token": {token},
		"scope": {"repository:alice.test/app:pull,push"}}
	for k, v := range more {
		f[k] = v
	}
	return r.post(t, form, "", f)
}

// refusesRefresh checks an answer that tells the user to log in again.
func refusesRefresh(t *testing.T, a answer, says string) {
	t.Helper()
	require.Equal(t, http.StatusUnauthorized, a.status, a.raw)
	require.Equal(t, "invalid_grant", a.OAuth)
	require.Equal(t, "UNAUTHORIZED", a.Errors[0].Code)
	require.Contains(t, a.Errors[0].Message, says)
	require.Contains(t, a.Errors[0].Message, "Log in again")
}

func TestARefreshTokenStandsForItsLogin(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	r, other := w.replica(t), w.replica(t)
	for name, login := range map[string]func() answer{
		"GET": func() answer { return r.offline(t, "alice.test", w.alice.AppPassword) },
		"POST": func() answer {
			return r.post(t, form, "", url.Values{"grant_type": {"password"}, "access_type": {"offline"}, "username": {"alice.test"}, "password": {w.alice.AppPassword}})
		},
	} {
		a := login()
		require.Equal(t, http.StatusOK, a.status, a.raw)
		require.Regexp(t, `^atcr_rt_[A-Za-z0-9_-]{43}$`, a.Refresh, name)
		for range 2 { // it can be used again, at every replica
			got := other.redeem(t, a.Refresh, nil)
			c := other.claims(t, got)
			require.Equal(t, string(w.alice.DID), c.Subject)
			require.Equal(t, auth.MethodAppPassword, c.AuthMethod)
			require.True(t, c.Allows("alice.test/app", auth.Push))
			require.Empty(t, got.Refresh, "nobody asked for it again")
		}
		require.Equal(t, a.Refresh, other.redeem(t, a.Refresh, url.Values{"access_type": {"offline"}}).Refresh)
		require.Equal(t, http.StatusOK, other.redeem(t, a.Refresh, url.Values{"account": {"ALICE.test"}}).status)
		require.Equal(t, http.StatusBadRequest, other.redeem(t, a.Refresh, url.Values{"account": {"bob.test"}}).status)
		foreign := other.claims(t, other.redeem(t, a.Refresh, url.Values{"scope": {"repository:bob.test/app:pull,push"}}))
		require.True(t, foreign.Allows("bob.test/app", auth.Pull))
		require.False(t, foreign.Allows("bob.test/app", auth.Push), "it grants what the login would grant")
	}
	require.Equal(t, 1, w.net.Count("createSession"))
	require.Zero(t, w.net.Count("refreshSession"), "the PDS has just said that the password is good")

	anonymous, err := http.Get(r.URL + auth.TokenPath + "?offline_token=true")
	require.NoError(t, err)
	defer anonymous.Body.Close()
	var a answer
	require.NoError(t, json.NewDecoder(anonymous.Body).Decode(&a))
	require.NotEmpty(t, a.Token)
	require.Empty(t, a.Refresh, "nobody has nothing to refresh")
}

func TestNoRefreshTokenIsMadeWhereNoneAreWantedAndOldOnesCount(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	old := w.replica(t).offline(t, "alice.test", w.alice.AppPassword).Refresh
	require.NotEmpty(t, old)
	r := w.replica(t, func(h *auth.Handler) { h.NoOffline = true })
	a := r.offline(t, "alice.test", w.alice.AppPassword)
	require.Equal(t, http.StatusOK, a.status, a.raw)
	require.NotEmpty(t, a.Token)
	require.Empty(t, a.Refresh, "the client keeps the password")
	require.Equal(t, http.StatusOK, r.redeem(t, old, nil).status)
}

func TestOnlyAHashOfARefreshTokenIsStored(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	r := w.replica(t)
	token := r.offline(t, "alice.test", w.alice.AppPassword).Refresh
	require.NotEmpty(t, token)
	for _, forged := range []string{"x", "atcr_rt_", token[:len(token)-1], token + "A", strings.ToUpper(token), r.token(t, "alice.test", w.alice.AppPassword).Token} {
		refusesRefresh(t, r.redeem(t, forged, nil), "unknown")
	}
	require.Equal(t, http.StatusOK, r.redeem(t, token, nil).status)
	files := readFiles(t, w.db)
	require.True(t, bytes.Contains(files, []byte(w.alice.DID)), "this is the database")
	require.False(t, bytes.Contains(files, []byte(token[len("atcr_rt_"):])))
}

func TestARevokedAppPasswordEndsItsRefreshTokens(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	r := w.replica(t)
	name, password := w.newAppPassword(t, "laptop")
	token := r.offline(t, "alice.test", password).Refresh
	second := r.offline(t, "alice.test", password).Refresh
	kept := r.offline(t, "alice.test", w.alice.AppPassword).Refresh
	require.NotEqual(t, token, second)

	w.pds(t, "com.atproto.server.revokeAppPassword", map[string]string{"name": name}, nil)
	w.ahead.Add(int64(4 * time.Minute))
	require.Equal(t, http.StatusOK, r.redeem(t, token, nil).status, "the PDS's last word is four minutes old")
	w.ahead.Add(int64(2 * time.Minute))
	refusesRefresh(t, r.redeem(t, token, nil), "revoked")
	refusesRefresh(t, r.redeem(t, second, nil), "unknown")
	require.Equal(t, http.StatusUnauthorized, r.token(t, "alice.test", password).status, "and so is the password")
	require.Equal(t, http.StatusOK, r.redeem(t, kept, nil).status, "another app password is not touched")
}

func TestAnOutageOfThePDSDoesNotEndRefreshTokens(t *testing.T) {
	w := newWorld(t, devnet.Config{})
	r := w.replica(t)
	token := r.offline(t, "alice.test", w.alice.AppPassword).Refresh
	w.ahead.Add(int64(10 * time.Minute))
	w.down.Store(true)
	require.Equal(t, http.StatusOK, r.redeem(t, token, nil).status)
	w.down.Store(false)
	w.limit.Store(true)
	require.Equal(t, http.StatusOK, r.redeem(t, token, nil).status, "asked too often is not a no")
	w.limit.Store(false)
	w.down.Store(true)
	w.ahead.Add(int64(48 * time.Hour))
	a := r.redeem(t, token, nil)
	require.Equal(t, http.StatusServiceUnavailable, a.status, "but not for ever")
	require.NotEmpty(t, a.header.Get("Retry-After"))
	w.down.Store(false)
	require.Equal(t, http.StatusOK, r.redeem(t, token, nil).status, "an outage loses none")
}

func TestARefreshTokenHasAnEnd(t *testing.T) {
	const day = int64(24 * time.Hour)
	w := newWorld(t, devnet.Config{})
	r := w.replica(t)
	used, unused := r.offline(t, "alice.test", w.alice.AppPassword).Refresh, r.offline(t, "alice.test", w.alice.AppPassword).Refresh
	tokens := &auth.RefreshTokens{Store: r.db, Now: w.now}
	for range 4 {
		w.ahead.Add(89 * day)
		require.NoError(t, tokens.Sweep(t.Context()))
		require.Equal(t, http.StatusOK, r.redeem(t, used, nil).status)
	}
	refusesRefresh(t, r.redeem(t, unused, nil), "expired")
	w.ahead.Add(10 * day)
	refusesRefresh(t, r.redeem(t, used, nil), "expired")
}

// readFiles is everything that the database keeps on disk.
func readFiles(t *testing.T, path string) []byte {
	t.Helper()
	paths, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	var all []byte
	for _, p := range paths {
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		all = append(all, b...)
	}
	return all
}

// pds calls a procedure of alice's PDS with her own password.
func (w *world) pds(t *testing.T, method string, in, out any) {
	t.Helper()
	call := func(method, token string, in, out any) {
		b, err := json.Marshal(in)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.net.URL()+"/xrpc/"+method, bytes.NewReader(b))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		if out != nil {
			require.NoError(t, json.NewDecoder(resp.Body).Decode(out))
		}
	}
	var s struct{ AccessJWT string }
	call("com.atproto.server.createSession", "", map[string]string{"identifier": "alice.test", "password": w.alice.Password}, &s)
	call(method, s.AccessJWT, in, out)
}

func (w *world) newAppPassword(t *testing.T, name string) (_, password string) {
	t.Helper()
	var out struct{ Password string }
	w.pds(t, "com.atproto.server.createAppPassword", map[string]string{"name": name}, &out)
	return name, out.Password
}
