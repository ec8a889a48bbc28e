package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/pds"
	"atcr.io/operator/appview/server/servertest"
)

// keep puts bytes into the PDS of one of the cast, and gives the reference to them.
func (s *strangers) keep(handle string, b []byte) any {
	s.t.Helper()
	ref, err := s.Devnet.Engine().PutBlob(s.t.Context(), s.Account(handle).DID, "application/vnd.oci.image.manifest.v1+json", strings.NewReader(string(b)), 1<<23)
	require.NoError(s.t, err)
	return ref
}

func imageOf(note string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","digest":"%s","size":1},"layers":[],"annotations":{"n":%q}}`,
		digest.FromString("config"), note)
}

func TestRecordsThatStrangersWroteAreServedOnlyWhenTheyAreTrue(t *testing.T) {
	s := startStrangers(t, ownLoopback)
	record := func(handle string, d digest.Digest, rkey string, blob any, more map[string]any) {
		r := map[string]any{"repository": "app", "digest": string(d), "schemaVersion": 2, "createdAt": "2026-01-01T00:00:00Z",
			"mediaType": "application/vnd.oci.image.manifest.v1+json", "holdDid": string(s.HoldDID())}
		if blob != nil {
			r["manifestBlob"] = blob
		}
		for k, v := range more {
			r[k] = v
		}
		s.record(handle, "io.atcr.manifest", rkey, r)
	}
	fetch := func(handle, ref string) (int, string) {
		resp := s.get(handle, "/manifests/"+ref)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	good := imageOf("good")
	d := digest.FromBytes(good)
	claimed := digest.FromString("what everybody pins")

	t.Run("the blob is of another digest", func(t *testing.T) {
		record("a.test", claimed, claimed.Encoded(), s.keep("a.test", imageOf("evil")), nil)
		status, body := fetch("a.test", string(claimed))
		require.Equal(t, http.StatusBadGateway, status, body)
		require.NotContains(t, body, "evil")
	})
	t.Run("the key is of another digest", func(t *testing.T) {
		record("b.test", d, claimed.Encoded(), s.keep("b.test", good), nil)
		status, body := fetch("b.test", string(d))
		require.Equal(t, http.StatusOK, status, "the fields count: %s", body)
		require.Equal(t, string(good), body)
		status, _ = fetch("b.test", string(claimed))
		require.Equal(t, http.StatusNotFound, status, "and the key does not")
	})
	t.Run("no bytes, a digest that is none, a repository that is a path", func(t *testing.T) {
		unseen := digest.FromBytes(imageOf("nobody has these bytes"))
		record("c.test", unseen, "one", nil, nil)
		record("c.test", "sha256:short", "two", nil, nil)
		record("c.test", "md5:d41d8cd98f00b204e9800998ecf8427e", "three", nil, map[string]any{"repository": "../../etc"})
		record("c.test", claimed, "four", nil, map[string]any{"layers": []any{map[string]any{"digest": "x", "size": -1, "mediaType": strings.Repeat("y", 5000)}}})
		for _, ref := range []string{string(unseen), string(claimed)} {
			status, body := fetch("c.test", ref)
			require.Equal(t, http.StatusNotFound, status, body)
		}
	})
	t.Run("a tag into another account", func(t *testing.T) {
		record("d.test", d, d.Encoded(), s.keep("d.test", good), nil)
		tag := func(name, uri string) {
			s.record("e.test", "io.atcr.tag", "app:"+name, map[string]any{"repository": "app", "tag": name, "manifest": uri, "createdAt": "2026-01-01T00:00:00Z"})
		}
		tag("theft", "at://"+string(s.Account("d.test").DID)+"/io.atcr.manifest/"+d.Encoded())
		tag("dots", "at://"+string(s.Account("e.test").DID)+"/io.atcr.manifest/../"+string(s.Account("d.test").DID))
		tag("handle", "at://d.test/io.atcr.manifest/"+d.Encoded())
		tag("nothing", "at://")
		for _, name := range []string{"theft", "dots", "handle", "nothing"} {
			status, body := fetch("e.test", name)
			require.Equal(t, http.StatusNotFound, status, "%s: %s", name, body)
		}
	})
	t.Run("a media type that a browser would run, and a header in it", func(t *testing.T) {
		for i, mediaType := range []string{"text/html", "text/html\r\nX-Evil: 1", "image/svg+xml"} {
			body := imageOf(fmt.Sprint("html", i))
			html := digest.FromBytes(body)
			record("f.test", html, html.Encoded(), s.keep("f.test", body), map[string]any{"mediaType": mediaType})
			resp := s.get("f.test", "/manifests/"+string(html))
			require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
			require.Empty(t, resp.Header.Get("X-Evil"))
			require.Contains(t, []int{200, 404, 502}, resp.StatusCode)
			if resp.StatusCode == http.StatusOK {
				require.NotContains(t, []string{"text/html", "image/svg+xml"}, resp.Header.Get("Content-Type"), "a manifest is never a page")
			}
		}
	})
	t.Run("an enormous record", func(t *testing.T) {
		record("g.test", d, d.Encoded(), s.keep("g.test", good), map[string]any{"annotations": map[string]any{"k": strings.Repeat("x", 900_000)}})
		status, body := fetch("g.test", string(d))
		require.Equal(t, http.StatusOK, status, "%.200s", body)
		require.Equal(t, string(good), body)
	})
	require.Equal(t, http.StatusOK, s.Do("", http.MethodGet, "/v2/", app, nil, nil).StatusCode, "the server goes on")
}

func TestNobodyIsSentByAStrangersHoldIntoHisOwnNetwork(t *testing.T) {
	s := startStrangers(t, ownLoopback)
	for i, where := range []string{"http://10.0.0.1/x", "https://169.254.169.254/latest/meta-data/", "http://[::ffff:10.0.0.1]/x", "https://2130706433/x", "http://127.0.0.66/x"} {
		handle := string(cast[i]) + ".test"
		s.on("com.atproto.sync.getBlob", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, where, http.StatusTemporaryRedirect)
		})
		s.manifest(handle, "holdDid", s.holdDID())
		resp := s.blob(http.MethodGet, handle)
		require.Empty(t, resp.Header.Get("Location"), where)
		refuses(t, resp, http.StatusBadGateway, "UNAVAILABLE", "does not answer like a hold")
	}
	s.on("com.atproto.sync.getBlob", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://bucket.example.com/x?signature=1", http.StatusTemporaryRedirect)
	})
	s.manifest("p.test", "holdDid", s.holdDID())
	resp := s.blob(http.MethodGet, "p.test")
	require.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode)
	require.Equal(t, "private, no-store", resp.Header.Get("Cache-Control"))
	require.Equal(t, "https://bucket.example.com/x?signature=1", resp.Header.Get("Location"))
}

// A hold that a stranger's record names learns the puller's name only when it insists, and gets a token for nobody else.
func TestAServiceTokenGoesToTheEndpointOfItsAudienceAndNowhereElse(t *testing.T) {
	s := startStrangers(t, ownLoopback)
	var mu sync.Mutex
	var tokens []string
	s.on("com.atproto.sync.getBlob", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		tokens = append(tokens, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		w.WriteHeader(http.StatusForbidden)
	})
	// The document of one hold names the endpoint of another: what comes there is for the first only.
	thief := s.identity('z', "atcr_hold", s.hold.URL)
	s.manifest("a.test", "holdDid", thief)
	path := "/v2/a.test/app/blobs/" + string(digest.FromString("blob"))
	for _, reader := range []string{"", "b.test"} {
		resp := s.Do(reader, http.MethodGet, path, "a.test/app", nil, nil)
		require.Contains(t, []int{401, 403}, resp.StatusCode)
	}
	mu.Lock()
	defer mu.Unlock()
	require.NotEmpty(t, tokens, "it insisted, and b.test was logged in")
	for _, token := range tokens {
		require.Contains(t, claimsOf(t, token), `"aud":"`+thief+`"`, "no token for another hold")
		require.Contains(t, claimsOf(t, token), `"iss":"`+string(s.Account("b.test").DID)+`"`, "of nobody but the reader")
	}
}

func TestListsAreBoundedWhateverIsAsked(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	blob := push(t, w, app, []byte("{}"))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifestOf(blob, blob, 2, 2)).StatusCode)
	token := w.Token(servertest.Alice, "repository:"+app+":pull", "registry:catalog:*")
	send := func(path string, query url.Values) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+path+"?"+query.Encode(), nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for _, path := range []string{"/v2/_catalog", "/v2/" + app + "/tags/list"} {
		for n, want := range map[string]int{"": 200, "0": 200, "1": 200, "1000000": 200, "999999999999999999": 200, "9223372036854775807": 400,
			"99999999999999999999999": 400, "-1": 400, "+1": 400, "1.5": 400, "0x10": 400, "a": 400, " 1": 400, "1e9": 400} {
			resp := send(path, url.Values{"n": {n}})
			require.Equal(t, want, resp.StatusCode, "%s?n=%s", path, n)
		}
		for _, last := range []string{"", "\x00", "\xff\xfe", strings.Repeat("x", 10_000), "' OR 1=1 --", "%00", "../..", "\r\nX-Evil: 1", "\u202e"} {
			resp := send(path, url.Values{"last": {last}, "n": {"1"}})
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode, "%s?last=%q: %s", path, last, body)
			require.Empty(t, resp.Header.Get("X-Evil"))
			require.Less(t, len(body), 1000)
		}
	}
	// More tags than a page has.
	tags := make([]pds.Write, 1001)
	for i := range tags {
		name := fmt.Sprintf("v1-%04d", i)
		tags[i] = pds.Write{Op: pds.Put, Collection: records.CollectionTag, RKey: syntax.RecordKey("app_" + name), Value: map[string]any{"$type": "io.atcr.tag",
			"repository": "app", "tag": name, "manifestDigest": string(digest.FromBytes(manifestOf(blob, blob, 2, 2))), "createdAt": "2026-01-01T00:00:00Z"}}
	}
	for some := range slices.Chunk(tags, 200) {
		_, _, err := w.Devnet.Engine().ApplyWrites(t.Context(), w.Account(servertest.Alice).DID, some, cid.Undef)
		require.NoError(t, err)
	}
	for _, n := range []string{"1000", "1001", "999999999999999999"} {
		var out struct{ Tags []string }
		require.Eventually(t, func() bool {
			resp := send("/v2/"+app+"/tags/list", url.Values{"n": {n}})
			require.Equal(t, 200, resp.StatusCode)
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
			return resp.Header.Get("Link") != ""
		}, 60*time.Second, 100*time.Millisecond, "the records are not seen")
		require.Len(t, out.Tags, 1000, "n=%s", n)
	}
	referrers := "/v2/" + app + "/referrers/" + string(blob)
	require.Equal(t, 200, send(referrers, url.Values{"last": {string(blob)}, "artifactType": {"\r\n\x00'"}}).StatusCode)
	for _, last := range []string{"\x00'\xff", "!1", "sha256:", string(blob) + "!"} {
		refuses(t, send(referrers, url.Values{"last": {last}}), 400, "DIGEST_INVALID", "is not a digest")
	}
}

func claimsOf(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	return string(b)
}
