package server_test

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
	"atcr.io/operator/appview/server/servertest"
)

func TestAHundredClientsThatWantAColdTagAskThePDSOnce(t *testing.T) {
	var pds calls
	w := servertest.Start(t, servertest.Options{WrapPDS: pds.wrap})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)

	// cost is what n clients at once ask the PDS for, of an AppView that has seen nothing yet.
	cost := func(n int) (lists, blobs int) {
		other := w.Fresh()
		token := other.Token("", "repository:"+app+":pull")
		pds.forget()
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for range n {
			wg.Go(func() {
				<-begin
				req, err := http.NewRequest(http.MethodGet, other.URL+"/v2/"+app+"/manifests/v1", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != string(body) {
					t.Errorf("status %d: %v", resp.StatusCode, err)
				}
			})
		}
		close(begin)
		wg.Wait()
		return pds.of("com.atproto.repo.listRecords"), pds.of("com.atproto.sync.getBlob")
	}
	lists, blobs := cost(1)
	require.Positive(t, lists)
	require.Equal(t, 1, blobs)
	manyLists, manyBlobs := cost(100)
	require.Equal(t, lists, manyLists)
	require.Equal(t, blobs, manyBlobs)
}

func TestPullsGoOnWhileThePDSIsDown(t *testing.T) {
	var pds calls
	w := servertest.Start(t, servertest.Options{WrapPDS: pds.wrap})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	d := string(digest.FromBytes(body))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)
	scope := "repository:" + app + ":pull"
	readers := map[string]client{"nobody": {t, w.Token("", scope)}, "the owner": {t, w.Token(servertest.Alice, scope)},
		"somebody else": {t, w.Token(servertest.Bob, scope)}}
	pds.down.Store(true)
	readers["a new login of a session that lives"] = client{t, w.Token(servertest.Bob, scope)}
	for who, c := range readers {
		require.Equal(t, d, c.digestOf(w, d), who)
		require.Equal(t, d, c.digestOf(w, "v1"), who)
		for path, status := range map[string]int{"/tags/list": 200, "/referrers/" + d: 200, "/manifests/none": 404,
			"/blobs/" + string(layer): 307, "/blobs/" + string(config): 307} {
			require.Equal(t, status, c.do(w, http.MethodGet, "/v2/"+app+path, nil).StatusCode, "%s: %s", who, path)
		}
	}
}

func TestWhatIsNotThereIsNotAskedForEachTime(t *testing.T) {
	var pds calls
	w := servertest.Start(t, servertest.Options{WrapPDS: pds.wrap})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)
	nobody := func(name string) client { return client{t, w.Token("", "repository:"+name+":pull")} }
	absent := map[string]string{"alice.test/app": "/manifests/none", "alice.test/none": "/manifests/v1", "nobody.test/app": "/manifests/v1"}
	clients := map[string]client{}
	for name := range absent {
		clients[name] = nobody(name)
	}
	ask := func() {
		for name, path := range absent {
			require.Equal(t, http.StatusNotFound, clients[name].do(w, http.MethodGet, "/v2/"+name+path, nil).StatusCode)
		}
		d := string(digest.FromString("none"))
		require.Equal(t, http.StatusNotFound, clients[app].do(w, http.MethodGet, "/v2/"+app+"/manifests/"+d, nil).StatusCode)
	}
	started := time.Now()
	for range 25 {
		ask()
	}
	// The mirror may be looked after every two seconds, whatever is asked.
	most := 1 + int(time.Since(started)/(2*time.Second)) + 1
	require.LessOrEqual(t, pds.of("com.atproto.sync.getLatestCommit"), most+1)
	require.LessOrEqual(t, pds.of("com.atproto.identity.resolveHandle"), 4, "an account that is not there is remembered too")
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "none", body).StatusCode)
	require.Equal(t, string(digest.FromBytes(body)), clients[app].digestOf(w, "none"), "what is pushed here is there at once")
}

func TestConditionalRequestsAndCaching(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	d := string(digest.FromBytes(body))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)
	nobody := client{t, w.Token("", "repository:"+app+":pull")}
	for ref, caching := range map[string]string{"v1": "no-cache", d: "private, max-age=31536000, immutable"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			for match, status := range map[string]int{"": 200, `"` + d + `"`: 304, `W/"` + d + `"`: 304, `"a", "` + d + `"`: 304, "*": 304, `"other"`: 200} {
				header := http.Header{}
				if match != "" {
					header.Set("If-None-Match", match)
				}
				resp := nobody.do(w, method, "/v2/"+app+"/manifests/"+ref, header)
				got, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, status, resp.StatusCode, "%s %s %s", method, ref, match)
				require.Equal(t, `"`+d+`"`, resp.Header.Get("ETag"))
				require.Equal(t, d, resp.Header.Get("Docker-Content-Digest"))
				require.Equal(t, caching, resp.Header.Get("Cache-Control"))
				if status == 200 && method == http.MethodGet {
					require.Equal(t, body, got)
				} else {
					require.Empty(t, got)
				}
				if status == 200 {
					require.EqualValues(t, len(body), resp.ContentLength)
				}
			}
		}
	}
	resp := nobody.do(w, http.MethodGet, "/v2/"+app+"/manifests/none", nil)
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"), "an absence is for now")
	require.Empty(t, resp.Header.Get("ETag"))
}

// A client that has the manifest already, or that began its pull at another AppView, begins with a blob.
func TestABlobIsFoundThoughNothingElseOfItsOwnerWasAskedForBefore(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifestOf(config, layer, 2, 5)).StatusCode)
	// The owner has opted out of default holds since, so that only the manifest says where its blobs are.
	_, _, err := w.Devnet.Engine().ApplyWrites(t.Context(), w.Account(servertest.Alice).DID, []pds.Write{{Op: pds.Put,
		Collection: "io.atcr.sailor.profile", RKey: "self", Value: map[string]any{"defaultHold": nil, "createdAt": "2026-01-01T00:00:00Z"}}}, cid.Undef)
	require.NoError(t, err)
	blobs, scope := "/v2/"+app+"/blobs/", "repository:"+app+":pull"
	for method, status := range map[string]int{http.MethodGet: 307, http.MethodHead: 200} {
		other := w.Fresh()
		require.Equal(t, status, client{t, other.Token("", scope)}.do(other, method, blobs+string(layer), nil).StatusCode, method)
	}
	other := w.Fresh()
	reader := client{t, other.Token("", scope)}
	refuses(t, reader.do(other, http.MethodGet, blobs+string(digest.FromString("absent")), nil), 404, "BLOB_UNKNOWN", "no such blob")
}
