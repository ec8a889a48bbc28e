package server_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

func TestABlobThatWasDeletedThroughAnotherReplicaIsNotThere(t *testing.T) {
	for name, foreign := range map[string]bool{"our hold": false, "a hold that does not reserve": true} {
		t.Run(name, func(t *testing.T) {
			a, b := replicas(t, servertest.Options{WrapHold: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if foreign && strings.HasSuffix(r.URL.Path, "io.atcr.hold.reserveManifest") {
						http.NotFound(w, r)
						return
					}
					next.ServeHTTP(w, r)
				})
			}})
			config, layer := push(t, a, app, []byte("{}")), push(t, a, app, []byte("layer"))
			body := manifestOf(config, layer, 2, 5)
			gone := b.Do(servertest.Alice, http.MethodDelete, "/v2/"+app+"/blobs/"+string(layer), app, nil, nil)
			require.Equal(t, http.StatusAccepted, gone.StatusCode)

			refuses(t, putManifest(a, servertest.Alice, app, "v1", body), 400, "MANIFEST_BLOB_UNKNOWN", string(layer))
			const other = "alice.test/other"
			mount := a.Do(servertest.Alice, http.MethodPost, "/v2/"+other+"/blobs/uploads/?mount="+string(layer)+"&from="+app, other, nil, nil)
			require.Equal(t, http.StatusAccepted, mount.StatusCode, "there is nothing to mount")
			push(t, b, app, []byte("layer"))
			require.Equal(t, http.StatusCreated, putManifest(a, servertest.Alice, app, "v1", body).StatusCode)
		})
	}
}

func TestTheLastPUTMayBeRepeatedAtAnotherReplica(t *testing.T) {
	var down atomic.Bool
	a, b := replicas(t, servertest.Options{WrapHold: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	}})
	blob := []byte("acknowledged by both")
	d := digest.FromBytes(blob)
	loc := start(t, a)
	put := func(w *servertest.World) *http.Response {
		return w.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(d), app, bytes.NewReader(blob), nil)
	}
	for _, w := range []*servertest.World{a, b, a} {
		resp := put(w)
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		require.Equal(t, string(d), resp.Header.Get("Docker-Content-Digest"))
	}
	refuses(t, b.Do(servertest.Alice, http.MethodPut, strings.Replace(loc, app, "alice.test/other", 1)+"?digest="+string(d), "alice.test/other", nil, nil),
		404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
	down.Store(true)
	refuses(t, put(b), 503, "UNAVAILABLE", "hold")
	down.Store(false)
	gone := a.Do(servertest.Alice, http.MethodDelete, "/v2/"+app+"/blobs/"+string(d), app, nil, nil)
	require.Equal(t, http.StatusAccepted, gone.StatusCode)
	refuses(t, put(b), 404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
}

func TestAfterARestartPullsByHandleGoOnWhileTheDirectoryIsDown(t *testing.T) {
	var network calls // the PDS, the PLC directory and the handle resolver
	w, _ := replicas(t, servertest.Options{WrapPDS: network.wrap})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	d := string(digest.FromBytes(body))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)

	network.down.Store(true)
	again := w.Replica() // another process over the same database: it remembers what that does
	nobody := client{t, again.Token("", "repository:"+app+":pull", "repository:bob.test/app:pull")}
	require.Equal(t, d, nobody.digestOf(again, "v1"))
	require.Equal(t, d, nobody.digestOf(again, d))
	require.Equal(t, 307, nobody.do(again, http.MethodGet, "/v2/"+app+"/blobs/"+string(layer), nil).StatusCode)
	refuses(t, nobody.do(again, http.MethodGet, "/v2/bob.test/app/manifests/v1", nil), 503, "UNAVAILABLE", "")
}
