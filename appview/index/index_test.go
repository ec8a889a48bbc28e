package index_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

const imageType = "application/vnd.oci.image.manifest.v1+json"

// world is a network, and a session at alice's PDS with which a test does what another AppView would.
type world struct {
	*servertest.World
	t      *testing.T
	access string
}

// start starts it over the engine's database.
func start(t *testing.T, e storetest.Engine, o servertest.Options) *world {
	env := e.Env()
	maps.Copy(env, o.AppViewEnv)
	o.AppViewEnv = env
	w := &world{servertest.Start(t, o), t, ""}
	var session struct{ AccessJWT string }
	w.xrpc("com.atproto.server.createSession", "application/json", map[string]string{
		"identifier": servertest.Alice, "password": w.Account(servertest.Alice).AppPassword}, &session)
	w.access = session.AccessJWT
	return w
}

// xrpc calls a procedure of alice's PDS.
func (w *world) xrpc(method, contentType string, in, out any) {
	w.t.Helper()
	body, raw := in.([]byte)
	if !raw {
		var err error
		body, err = json.Marshal(in)
		require.NoError(w.t, err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.Devnet.URL()+"/xrpc/"+method, bytes.NewReader(body))
	require.NoError(w.t, err)
	req.Header.Set("Content-Type", contentType)
	if w.access != "" {
		req.Header.Set("Authorization", "Bearer "+w.access)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	require.Equal(w.t, 200, resp.StatusCode, "%s: %s", method, answer)
	if out != nil {
		require.NoError(w.t, json.Unmarshal(answer, out))
	}
}

func (w *world) did() string { return string(w.Account(servertest.Alice).DID) }

func (w *world) putRecord(collection, rkey string, record map[string]any) {
	w.t.Helper()
	record["$type"] = collection
	w.xrpc("com.atproto.repo.putRecord", "application/json", map[string]any{"repo": w.did(), "collection": collection, "rkey": rkey, "record": record}, nil)
}

// uploadBlob gives the blob reference of bytes on the PDS.
func (w *world) uploadBlob(b []byte) json.RawMessage {
	w.t.Helper()
	var out struct{ Blob json.RawMessage }
	w.xrpc("com.atproto.repo.uploadBlob", imageType, b, &out)
	return out.Blob
}

type record struct {
	URI   string
	Value map[string]any
}

func (w *world) list(collection string) []record {
	w.t.Helper()
	resp, err := http.Get(w.Devnet.URL() + "/xrpc/com.atproto.repo.listRecords?" + url.Values{"repo": {w.did()}, "collection": {collection}}.Encode())
	require.NoError(w.t, err)
	defer resp.Body.Close()
	var out struct{ Records []record }
	require.NoError(w.t, json.NewDecoder(resp.Body).Decode(&out))
	return out.Records
}

// do sends a request as alice and returns status and body.
func (w *world) do(method, repo, path string, body []byte, contentType string) (int, string) {
	w.t.Helper()
	name := "alice.test/" + repo
	resp := w.Do(servertest.Alice, method, "/v2/"+name+path, name, bytes.NewReader(body), http.Header{"Content-Type": {contentType}})
	b, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(b)
}

func (w *world) status(method, repo, path string) int {
	w.t.Helper()
	s, _ := w.do(method, repo, path, nil, "")
	return s
}

// image pushes a small image and returns its bytes and digest. Different texts make different images.
func (w *world) image(repo, ref, text string, extra string) ([]byte, digest.Digest) {
	w.t.Helper()
	d := digest.FromString(text)
	status, body := w.do(http.MethodPost, repo, "/blobs/uploads/?digest="+string(d), []byte(text), "")
	require.Equal(w.t, 201, status, body)
	m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.example.config","digest":%q,"size":%d},"layers":[]%s}`,
		imageType, d, len(text), extra)
	if ref == "" {
		ref = string(digest.FromBytes(m))
	}
	status, body = w.do(http.MethodPut, repo, "/manifests/"+ref, m, imageType)
	require.Equal(w.t, 201, status, body)
	return m, digest.FromBytes(m)
}

func (w *world) index(repo, ref string, children ...[]byte) digest.Digest {
	w.t.Helper()
	var entries []string
	for _, c := range children {
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, imageType, digest.FromBytes(c), len(c)))
	}
	m := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + strings.Join(entries, ",") + `]}`)
	status, body := w.do(http.MethodPut, repo, "/manifests/"+ref, m, "application/vnd.oci.image.index.v1+json")
	require.Equal(w.t, 201, status, body)
	return digest.FromBytes(m)
}

func TestRecordsOfAnotherAppViewAreServedAndTheirKeysReused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		m, _ := w.image("elsewhere", "x", "config", "") // has the blobs in the hold
		other := append(bytes.TrimSuffix(m, []byte("}")), []byte(`,"annotations":{"by":"another"}}`)...)
		d := digest.FromBytes(other)
		w.putRecord("io.atcr.manifest", d.Encoded(), map[string]any{"repository": "old", "digest": string(d), "mediaType": imageType, "schemaVersion": 2,
			"createdAt": "2025-11-01T00:00:00Z", "holdEndpoint": w.HoldURL, "manifestBlob": w.uploadBlob(other), "later": "field"})
		w.putRecord("io.atcr.tag", "old_latest", map[string]any{"repository": "old", "tag": "latest", "manifestDigest": string(d), "createdAt": "2025-11-01T00:00:00Z"})

		require.Eventually(t, func() bool {
			status, body := w.do(http.MethodGet, "old", "/manifests/latest", nil, "")
			return status == 200 && body == string(other)
		}, time.Minute, 20*time.Millisecond, "seen after the mirror's time to live")
		require.Equal(t, 200, w.status(http.MethodHead, "old", "/blobs/"+string(digest.FromString("config"))))

		// A push over it keeps the tag's key, and what the records say that we do not know.
		status, body := w.do(http.MethodPut, "old", "/manifests/latest", other, imageType)
		require.Equal(t, 201, status, body)
		require.Len(t, w.list("io.atcr.tag"), 2)
		for _, r := range w.list("io.atcr.tag") {
			if r.Value["repository"] == "old" {
				require.True(t, strings.HasSuffix(r.URI, "/old_latest"), r.URI)
			}
		}
		for _, r := range w.list("io.atcr.manifest") {
			if r.Value["digest"] == string(d) {
				require.Equal(t, "field", r.Value["later"])
				require.Equal(t, "2025-11-01T00:00:00Z", r.Value["createdAt"])
			}
		}
	})
}

func TestARecordThatDoesNotMatchItsBytesIsNeverServed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		m, _ := w.image("app", "good", "config", "")
		claimed := digest.FromString("something else")
		w.putRecord("io.atcr.manifest", claimed.Encoded(), map[string]any{"repository": "app", "digest": string(claimed), "mediaType": imageType,
			"schemaVersion": 2, "createdAt": "2025-11-01T00:00:00Z", "holdDid": string(w.HoldDID()), "manifestBlob": w.uploadBlob(m)})
		require.Eventually(t, func() bool {
			status, body := w.do(http.MethodGet, "app", "/manifests/"+string(claimed), nil, "")
			require.NotEqual(t, 200, status)
			return status == 502 && strings.Contains(body, "MANIFEST_UNVERIFIED")
		}, time.Minute, 20*time.Millisecond)
		require.Equal(t, 502, w.status(http.MethodHead, "app", "/manifests/"+string(claimed)), "a HEAD promises no more than GET")
		resp, err := http.Get(w.DebugURL + "/metrics")
		require.NoError(t, err)
		defer resp.Body.Close()
		metrics, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Regexp(t, `\natcr_corrupt_manifests_total{where="pds"} [1-9]`, string(metrics), "whoever looks after the server learns of it")
		require.Contains(t, string(metrics), `atcr_corrupt_manifests_total{where="store"} 0`)
	})
}

func TestDeletingInOneRepositoryLeavesTheOthersWhole(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		m, d := w.image("one", "v1", "config", "")
		w.image("two", "v1", "config", "")
		ref := "/manifests/" + string(d)

		require.Equal(t, 202, w.status(http.MethodDelete, "one", ref))
		require.Equal(t, 404, w.status(http.MethodHead, "one", ref))
		require.Equal(t, 404, w.status(http.MethodHead, "one", "/manifests/v1"), "its tags go with it")
		require.Equal(t, 200, w.status(http.MethodGet, "two", ref))
		require.Equal(t, 200, w.status(http.MethodGet, "two", "/manifests/v1"))
		require.Equal(t, 409, w.status(http.MethodDelete, "two", "/blobs/"+string(digest.FromString("config"))), "a blob in use stays")

		// An index in a third repository keeps its entries, whoever deletes them.
		w.index("three", "all", m)
		require.Equal(t, 202, w.status(http.MethodDelete, "two", ref))
		require.Equal(t, 404, w.status(http.MethodGet, "two", ref))
		require.Equal(t, 200, w.status(http.MethodGet, "three", ref))
		require.Equal(t, 404, w.status(http.MethodDelete, "two", ref), "it is not there to delete")

		// Deleting a tag deletes nothing else: untagged is not unreferenced.
		require.Equal(t, 202, w.status(http.MethodDelete, "three", "/manifests/all"))
		require.Equal(t, 200, w.status(http.MethodGet, "three", ref))
	})
}

func TestManifestsThatARecordCannotHoldWhole(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		odd := `,"annotations":{"$type":"blob","$link":"x","$bytes":"y"}`
		large := `,"annotations":{"text":"` + strings.Repeat("a", 200_000) + `"}`
		for name, extra := range map[string]string{"keys of the data model": odd, "more than 100 kB": large} {
			m, d := w.image("app", "v1", "config", extra)
			status, body := w.do(http.MethodGet, "app", "/manifests/v1", nil, "")
			require.Equal(t, 200, status, name)
			require.Equal(t, string(m), body, "%s: byte for byte", name)
			for _, r := range w.list("io.atcr.manifest") {
				if r.Value["digest"] == string(d) {
					require.NotContains(t, r.Value, "annotations", name)
				}
			}
		}
	})
}

func TestWhatARecordLeavesOutIsStillKnownWhenTheMirrorIsReadAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		layer := digest.FromString("layer")
		status, body := w.do(http.MethodPost, "app", "/blobs/uploads/?digest="+string(layer), []byte("layer"), "")
		require.Equal(t, 201, status, body)
		d := digest.FromString("config")
		status, body = w.do(http.MethodPost, "app", "/blobs/uploads/?digest="+string(d), []byte("config"), "")
		require.Equal(t, 201, status, body)
		m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":6},"layers":[{"mediaType":"a/b","digest":%q,"size":5}],"annotations":{"text":%q}}`,
			imageType, d, layer, strings.Repeat("a", 200_000))
		status, body = w.do(http.MethodPut, "app", "/manifests/v1", m, imageType)
		require.Equal(t, 201, status, body)

		// Another AppView tags it: this one reads all records again.
		w.putRecord("io.atcr.tag", "second", map[string]any{"repository": "app", "tag": "v2", "manifestDigest": string(digest.FromBytes(m)), "createdAt": "2025-11-01T00:00:00Z"})
		require.Eventually(t, func() bool { return w.status(http.MethodGet, "app", "/manifests/v2") == 200 }, time.Minute, 20*time.Millisecond)
		require.Equal(t, 409, w.status(http.MethodDelete, "app", "/blobs/"+string(layer)), "the layer is known to be in use")
	})
}

func TestSomebodyElseWritesToTheRepositoryMeanwhile(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		w.image("app", "v0", "config", "")
		stop, done := make(chan struct{}), make(chan int, 1)
		go func() { // e.g. the user's posts: every one moves the repository's head
			for n := 0; ; n++ {
				select {
				case <-stop:
					done <- n
					return
				case <-time.After(10 * time.Millisecond):
					w.putRecord("app.bsky.feed.post", "self", map[string]any{"text": fmt.Sprint(n), "createdAt": "2025-11-01T00:00:00Z"})
				}
			}
		}()
		for i := range 10 {
			w.image("app", fmt.Sprintf("v%d", i+1), "config", "")
		}
		close(stop)
		require.Positive(t, <-done)
		require.Len(t, w.list("io.atcr.tag"), 11)
	})
}

func TestTheHoldIsToldOfAPushAlsoWhenItWasDownThen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		var refuse atomic.Bool
		refuse.Store(true)
		w := start(t, e, servertest.Options{WrapHold: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if refuse.Load() && strings.HasSuffix(r.URL.Path, "notifyManifest") {
					rw.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				next.ServeHTTP(rw, r)
			})
		}})
		w.image("app", "v1", "config", "")
		stats := func() int {
			resp, err := http.Get(w.HoldURL + "/xrpc/com.atproto.repo.listRecords?" + url.Values{"repo": {string(w.HoldDID())}, "collection": {"io.atcr.hold.stats"}}.Encode())
			require.NoError(t, err)
			defer resp.Body.Close()
			var out struct{ Records []record }
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
			return len(out.Records)
		}
		require.Zero(t, stats(), "the push did not wait for it")
		refuse.Store(false)
		require.Eventually(t, func() bool { return stats() == 1 }, time.Minute, 50*time.Millisecond)
	})
}

func TestAProfileIsMadeAtTheFirstLoginAndRespectedAfterwards(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		w.Token(servertest.Alice)
		profiles := w.list("io.atcr.sailor.profile")
		require.Len(t, profiles, 1)
		require.Equal(t, string(w.HoldDID()), profiles[0].Value["defaultHold"])

		w.putRecord("io.atcr.sailor.profile", "self", map[string]any{"createdAt": "2025-11-01T00:00:00Z", "defaultHold": nil})
		status, body := w.do(http.MethodPost, "app", "/blobs/uploads/", nil, "")
		require.Equal(t, 403, status)
		require.Contains(t, body, "no hold to keep your blobs in")
	})
}
