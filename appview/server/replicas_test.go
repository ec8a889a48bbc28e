package server_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

// replicas starts two AppViews over one PostgreSQL.
func replicas(t *testing.T, o servertest.Options) (a, b *servertest.World) {
	t.Helper()
	o.AppViewEnv = storetest.New(t, storetest.PostgreSQL).Env()
	a = servertest.Start(t, o)
	return a, a.Replica()
}

// calls counts requests to a PDS or hold by method.
type calls struct {
	mu    sync.Mutex
	count map[string]int
	down  atomic.Bool
}

func (c *calls) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.down.Load() {
			panic(http.ErrAbortHandler)
		}
		c.mu.Lock()
		if c.count == nil {
			c.count = map[string]int{}
		}
		c.count[strings.TrimPrefix(r.URL.Path, "/xrpc/")]++
		c.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (c *calls) of(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[method]
}

func (c *calls) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count = nil
}

// client holds a token that is good at every replica, so that requests need neither PDS nor database for it.
type client struct {
	t     *testing.T
	token string
}

func (c client) do(w *servertest.World, method, path string, header http.Header) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, w.URL+path, nil)
	require.NoError(c.t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// digestOf is what a reference names at a replica; empty when it names nothing.
func (c client) digestOf(w *servertest.World, ref string) string {
	c.t.Helper()
	resp := c.do(w, http.MethodGet, "/v2/"+app+"/manifests/"+ref, nil)
	if resp.StatusCode == http.StatusNotFound {
		return ""
	}
	body, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, resp.StatusCode, "%s", body)
	require.Equal(c.t, string(digest.FromBytes(body)), resp.Header.Get("Docker-Content-Digest"))
	return resp.Header.Get("Docker-Content-Digest")
}

func TestWhatOneReplicaAcknowledgedIsSeenByAnotherAtOnce(t *testing.T) {
	var pds calls
	a, b := replicas(t, servertest.Options{WrapPDS: pds.wrap})
	config := push(t, a, app, []byte("{}"))
	all := client{t, a.Token(servertest.Alice, "repository:"+app+":pull,push,delete")}
	from, to := a, b
	for i := range 6 {
		layer := push(t, from, app, fmt.Appendf(nil, "layer %02d", i))
		body := manifestOf(config, layer, 2, 8)
		d := string(digest.FromBytes(body))
		require.Empty(t, all.digestOf(to, d), "the absence is remembered")
		require.Equal(t, http.StatusCreated, putManifest(from, servertest.Alice, app, "latest", body).StatusCode)
		pds.down.Store(true) // the other replica has nobody to ask but the database
		require.Equal(t, d, all.digestOf(to, "latest"))
		require.Equal(t, d, all.digestOf(to, d))
		pds.down.Store(false)

		require.Equal(t, http.StatusCreated, putManifest(to, servertest.Alice, app, "other", body).StatusCode)
		pds.down.Store(true)
		resp := all.do(from, http.MethodGet, "/v2/"+app+"/tags/list", nil)
		tags, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.JSONEq(t, `{"name":"`+app+`","tags":["latest","other"]}`, string(tags))
		pds.down.Store(false)

		require.Equal(t, http.StatusAccepted, all.do(from, http.MethodDelete, "/v2/"+app+"/manifests/other", nil).StatusCode)
		pds.down.Store(true)
		require.Empty(t, all.digestOf(to, "other"))
		require.Equal(t, d, all.digestOf(to, d), "untagged is not deleted")
		pds.down.Store(false)

		require.Equal(t, http.StatusAccepted, all.do(to, http.MethodDelete, "/v2/"+app+"/manifests/"+d, nil).StatusCode)
		pds.down.Store(true)
		require.Empty(t, all.digestOf(from, d))
		require.Empty(t, all.digestOf(from, "latest"))
		pds.down.Store(false)
		from, to = to, from
	}
}

func TestManyPushesThroughTwoReplicasAllArriveAndEachIsToldToTheHoldOnce(t *testing.T) {
	var hold calls
	a, b := replicas(t, servertest.Options{WrapHold: hold.wrap})
	config, layer := push(t, a, app, []byte("{}")), push(t, a, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	const each = 8
	var wg sync.WaitGroup
	for r, w := range []*servertest.World{a, b} {
		for i := range each {
			wg.Go(func() {
				ref := fmt.Sprintf("v%d-%d", r, i)
				for try := 0; ; try++ {
					resp := putManifest(w, servertest.Alice, app, ref, body)
					if resp.StatusCode == http.StatusCreated {
						return
					}
					if resp.StatusCode != http.StatusServiceUnavailable || try == 5 {
						t.Errorf("%s: status %d", ref, resp.StatusCode)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for _, w := range []*servertest.World{a, b} {
		resp := w.Do(servertest.Alice, http.MethodGet, "/v2/"+app+"/tags/list", app, nil, nil)
		tags, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, 2*each, strings.Count(string(tags), `"v`), "%s", tags)
	}
	const notify = "io.atcr.hold.notifyManifest"
	require.Eventually(t, func() bool { return hold.of(notify) >= 2*each }, 30*time.Second, 20*time.Millisecond)
	require.Equal(t, 2*each, hold.of(notify), "replicas do not repeat each other")
}

func TestAnUploadGoesOnAtAnotherReplica(t *testing.T) {
	a, b := replicas(t, servertest.Options{})
	blob := bytes.Repeat([]byte("0123456789"), 200_000)
	d := digest.FromBytes(blob)
	loc := start(t, a)
	half := len(blob) / 2
	resp := b.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob[:half]), http.Header{"Content-Range": {fmt.Sprintf("0-%d", half-1)}})
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	resp = a.Do(servertest.Alice, http.MethodGet, loc, app, nil, nil)
	require.Equal(t, fmt.Sprintf("0-%d", half-1), resp.Header.Get("Range"))
	resp = a.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob[half:]), nil)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.Equal(t, http.StatusCreated, b.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(d), app, nil, nil).StatusCode)
	resp = a.Do(servertest.Alice, http.MethodHead, "/v2/"+app+"/blobs/"+string(d), app, nil, nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.EqualValues(t, len(blob), resp.ContentLength)
	refuses(t, a.Do(servertest.Alice, http.MethodPatch, loc, app, nil, nil), 404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
}

func TestALoginAtOneReplicaIsASessionOfAll(t *testing.T) {
	var pds calls
	a, b := replicas(t, servertest.Options{WrapPDS: pds.wrap})
	a.Token(servertest.Alice)
	require.Equal(t, 1, pds.of("com.atproto.server.createSession"))
	b.Token(servertest.Alice)
	push(t, b, app, []byte("with the session of the other"))
	require.Equal(t, 1, pds.of("com.atproto.server.createSession"))
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestADatabaseThatGoesAwayAndComesBack(t *testing.T) {
	cluster := storetest.StartPostgres(t)
	var log lockedBuffer
	w := servertest.Start(t, servertest.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		AppViewEnv: map[string]string{names.DatabaseURL: cluster.Database(t)}})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)
	ready := func() int {
		resp, err := http.Get(w.DebugURL + names.PathReady)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	all := client{t, w.Token(servertest.Alice, "repository:"+app+":pull,push,delete")}
	require.Equal(t, http.StatusOK, ready())

	cluster.Stop()
	require.Equal(t, http.StatusServiceUnavailable, ready())
	for _, r := range []struct{ method, path string }{
		{"GET", "/manifests/v1"}, {"GET", "/manifests/" + string(digest.FromBytes(body))}, {"GET", "/tags/list"},
		{"GET", "/referrers/" + string(config)}, {"DELETE", "/manifests/v1"}, {"POST", "/blobs/uploads/"},
	} {
		resp := all.do(w, r.method, "/v2/"+app+r.path, nil)
		require.NotEmpty(t, resp.Header.Get("Retry-After"), "%s %s", r.method, r.path)
		refuses(t, resp, 503, "UNAVAILABLE", "database")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/auth/token", nil)
	require.NoError(t, err)
	req.SetBasicAuth(servertest.Alice, w.Account(servertest.Alice).Password) // who has not logged in seconds ago
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	refuses(t, resp, 503, "UNAVAILABLE", "database")

	require.NoError(t, cluster.Start())
	require.Eventually(t, func() bool { return ready() == http.StatusOK }, time.Minute, 20*time.Millisecond, "it recovers by itself")
	require.Equal(t, string(digest.FromBytes(body)), all.digestOf(w, "v1"))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v2", body).StatusCode)
	require.Contains(t, log.String(), "not ready")
	require.NotContains(t, log.String(), cluster.Password())
}
