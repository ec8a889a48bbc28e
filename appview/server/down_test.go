package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/backup"
)

func TestServicesThatAreDown(t *testing.T) {
	var pdsDown, holdDown atomic.Bool
	gate := func(down *atomic.Bool) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if down.Load() {
					panic(http.ErrAbortHandler)
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	w := servertest.Start(t, servertest.Options{WrapPDS: gate(&pdsDown), WrapHold: gate(&holdDown)})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)
	d := digest.FromBytes(body)
	token := w.Token(servertest.Alice, "repository:"+app+":pull,push,delete")
	send := func(method, path string, in []byte) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, w.URL+path, bytes.NewReader(in))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := client.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}

	t.Run("the hold", func(t *testing.T) {
		holdDown.Store(true)
		defer holdDown.Store(false)
		resp := send("POST", "/v2/"+app+"/blobs/uploads/?digest="+string(digest.FromString("blob")), []byte("blob"))
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
		refuses(t, resp, 503, "UNAVAILABLE", "hold "+string(w.HoldDID()))
		refuses(t, send("GET", "/v2/"+app+"/blobs/"+string(layer), nil), 503, "UNAVAILABLE", "cannot be reached")
		require.Equal(t, 200, send("GET", "/v2/"+app+"/manifests/v1", nil).StatusCode, "manifests need no hold")
	})
	t.Run("the PDS", func(t *testing.T) {
		pdsDown.Store(true)
		defer pdsDown.Store(false)
		refuses(t, send("PUT", "/v2/"+app+"/manifests/v2", body), 503, "UNAVAILABLE", "PDS")
		for _, ref := range []string{"v1", string(d)} {
			resp := send("GET", "/v2/"+app+"/manifests/"+ref, nil)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode, "what was seen before is still served: %s", got)
			require.Equal(t, body, got)
		}
		require.Equal(t, 307, send("GET", "/v2/"+app+"/blobs/"+string(layer), nil).StatusCode)
	})
	require.Equal(t, 404, send("HEAD", "/v2/"+app+"/manifests/v2", nil).StatusCode, "nothing came of the refused push")
	require.Equal(t, http.StatusCreated, send("PUT", "/v2/"+app+"/manifests/v2", body).StatusCode, "and it works again")
}

func TestAHoldThatRefusesTheUser(t *testing.T) {
	w := servertest.Start(t, servertest.Options{HoldEnv: map[string]string{names.HoldAllowAllCrew: "false", names.HoldPublic: "false"}})
	resp := w.Do(servertest.Bob, http.MethodPost, "/v2/bob.test/app/blobs/uploads/", "bob.test/app", nil, nil)
	refuses(t, resp, 403, "DENIED", "hold "+string(w.HoldDID())+" does not let you")

	layer := push(t, w, app, []byte("private"))
	path := "/v2/" + app + "/blobs/" + string(layer)
	resp = w.Do("", http.MethodGet, path, app, nil, nil)
	require.Contains(t, resp.Header.Get("WWW-Authenticate"), "Bearer", "an anonymous client is asked to log in")
	refuses(t, resp, 401, "UNAUTHORIZED", "private hold")
	refuses(t, w.Do(servertest.Bob, http.MethodGet, path, app, nil, nil), 403, "DENIED", "does not let you")
	require.Equal(t, 307, w.Do(servertest.Alice, http.MethodGet, path, app, nil, nil).StatusCode)
}

func TestALoginThatIsWrong(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	for user, says := range map[string]string{servertest.Alice: "refused the app password", "nobody.test": "no account", "x y": "neither a handle nor a DID"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/auth/token", nil)
		require.NoError(t, err)
		req.SetBasicAuth(user, "wrong")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		refuses(t, resp, 401, "UNAUTHORIZED", says)
		resp.Body.Close()
	}
}

func TestAPDSThatLimitsRequests(t *testing.T) {
	var limit atomic.Bool
	w := servertest.Start(t, servertest.Options{WrapPDS: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if limit.Load() && strings.HasSuffix(r.URL.Path, "applyWrites") {
				w.Header().Set("Retry-After", "17")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	limit.Store(true)
	resp := putManifest(w, servertest.Alice, app, "v1", manifestOf(config, layer, 2, 5))
	require.Equal(t, "17", resp.Header.Get("Retry-After"))
	refuses(t, resp, 429, "TOOMANYREQUESTS", "PDS limits")
	require.Empty(t, recordsOf(t, w, records.CollectionManifest))
}

func TestWithoutTheWebInterfaceNothingIsKeptOnDisk(t *testing.T) {
	dir := t.TempDir()
	w := servertest.Start(t, servertest.Options{Dir: dir, AppViewEnv: map[string]string{names.UIEnabled: "false"}})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)
	require.Equal(t, 200, w.Do("", http.MethodGet, "/v2/"+app+"/manifests/v1", app, nil, nil).StatusCode)
	require.NoFileExists(t, filepath.Join(dir, "appview", "ui.db"))
	login := tokenForm(t, w, url.Values{"grant_type": {"password"}, "access_type": {"offline"}, "client_id": {"docker"},
		"username": {servertest.Alice}, "password": {w.Account(servertest.Alice).AppPassword}})
	require.NotEmpty(t, login.Token)
	require.Empty(t, login.Refresh, "it would be unknown after a restart")
}

func TestOutsideTestModePrivateAddressesAreReachedOnlyWhenAllowed(t *testing.T) {
	env := map[string]string{names.TestMode: "false", names.AllowedPrivateCIDRs: "127.0.0.0/8,::1/128"}
	w := servertest.Start(t, servertest.Options{Proxy: true, AppViewEnv: env})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifestOf(config, layer, 2, 5)).StatusCode)
	require.Equal(t, 200, w.Do("", http.MethodGet, "/v2/"+app+"/blobs/"+string(layer), app, nil, nil).StatusCode)

	w = servertest.Start(t, servertest.Options{Proxy: true, AppViewEnv: map[string]string{names.TestMode: "false"}})
	refuses(t, w.Do("", http.MethodGet, "/v2/"+app+"/manifests/v1", app, nil, nil), 503, "UNAVAILABLE", "PDS")
}

func TestAServerWithADirectoryForBackupsMakesOneAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	w := servertest.Start(t, servertest.Options{AppViewEnv: map[string]string{names.BackupDir: dir}})
	require.Eventually(t, func() bool {
		resp, err := http.Get(w.DebugURL + names.PathReady)
		require.NoError(t, err)
		defer resp.Body.Close()
		var ready names.Ready
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&ready))
		require.NotNil(t, ready.Backup)
		require.Empty(t, ready.Backup.Failed)
		return !ready.Backup.Last.IsZero()
	}, time.Minute, 10*time.Millisecond)
	made, err := backup.Dir{Path: dir}.List()
	require.NoError(t, err)
	require.Len(t, made, 1)
}

func TestReadyNamesTheKeysAndTheRuntimeFile(t *testing.T) {
	w := servertest.Start(t, servertest.Options{Proxy: true})
	resp, err := http.Get(w.DebugURL + names.PathReady)
	require.NoError(t, err)
	defer resp.Body.Close()
	var ready names.Ready
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&ready))
	require.Equal(t, "ok", ready.Status)
	require.Len(t, ready.KeySetHash, 64)
	require.Len(t, ready.RuntimeHash, 64)
	require.NotNil(t, ready.Database)
	require.Positive(t, ready.Database.Bytes)
	require.Positive(t, ready.Database.Free)
	require.Positive(t, ready.Database.Schema)

	w.Do("", http.MethodGet, "/v2/"+app+"/tags/list", app, nil, nil)
	resp, err = http.Get(w.DebugURL + names.PathMetrics)
	require.NoError(t, err)
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(metrics), `atcr_requests_total{method="GET",route="tags",status="404"} 1`)
	require.NotContains(t, string(metrics), "alice", "names are never label values")
}
