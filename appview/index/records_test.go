package index_test

import (
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

	"atcr.io/operator/appview/atproto/lexicons"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

// everyRecord lists all io.atcr.* records of a repository, as anybody can.
func (w *world) everyRecord(server, did string) (records []json.RawMessage) {
	w.t.Helper()
	get := func(method string, params url.Values, out any) {
		resp, err := http.Get(server + "/xrpc/" + method + "?" + params.Encode())
		require.NoError(w.t, err)
		defer resp.Body.Close()
		require.Equal(w.t, 200, resp.StatusCode)
		require.NoError(w.t, json.NewDecoder(resp.Body).Decode(out))
	}
	var repo struct{ Collections []string }
	get("com.atproto.repo.describeRepo", url.Values{"repo": {did}}, &repo)
	for _, c := range repo.Collections {
		var page struct {
			Cursor  string
			Records []struct{ Value json.RawMessage }
		}
		for more := strings.HasPrefix(c, "io.atcr."); more; more = page.Cursor != "" {
			params := url.Values{"repo": {did}, "collection": {c}, "limit": {"100"}, "cursor": {page.Cursor}}
			page.Cursor, page.Records = "", nil
			get("com.atproto.repo.listRecords", params, &page)
			for _, r := range page.Records {
				records = append(records, r.Value)
			}
		}
	}
	return records
}

func TestEveryRecordThatALoginAndPushesWriteFollowsItsLexicon(t *testing.T) {
	w := start(t, storetest.New(t, storetest.File), servertest.Options{})
	layer := []byte("a layer")
	d := digest.SHA512.FromBytes(layer)
	status, body := w.do(http.MethodPost, "team/app", "/blobs/uploads/?digest="+string(d), layer, "")
	require.Equal(t, 201, status, body)
	layers := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":%q,"size":%d,"urls":["https://mirror.example.com/x","not a url"],"annotations":{"$link":"x"}}`, d, len(layer))
	config := digest.FromString("config")
	status, body = w.do(http.MethodPost, "team/app", "/blobs/uploads/?digest="+string(config), []byte("config"), "")
	require.Equal(t, 201, status, body)
	image := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":6},
		"layers":[%s],"annotations":{"$type":"blob","org.opencontainers.image.title":"app"}}`, imageType, config, layers)
	status, body = w.do(http.MethodPut, "team/app", "/manifests/"+string(digest.SHA512.FromBytes(image))+"?tag=v1&tag=latest", image, imageType)
	require.Equal(t, 201, status, body)

	plain, plainDigest := w.image("team/app", "plain", "config", "")
	w.image("other", "plain", "config", "")
	w.image("team/app", "", "config", fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":%d},"annotations":{"by":"a referrer"}`, imageType, plainDigest, len(plain)))
	w.index("team/app", "all", plain)
	require.Equal(t, 202, w.status(http.MethodDelete, "other", "/manifests/"+string(plainDigest)), "a record is written again without a repository")

	count := map[string]int{}
	require.Eventually(t, func() bool {
		clear(count)
		for _, r := range append(w.everyRecord(w.Devnet.URL(), w.did()), w.everyRecord(w.HoldURL, string(w.HoldDID()))...) {
			nsid, err := lexicons.Validate(r)
			require.NoError(t, err, "%s", r)
			count[nsid]++
		}
		return count["io.atcr.hold.layer"] > 0 && count["io.atcr.hold.stats"] == 2
	}, time.Minute, 50*time.Millisecond, "the hold hears of every push")
	for nsid, least := range map[string]int{"io.atcr.manifest": 4, "io.atcr.tag": 4, "io.atcr.sailor.profile": 1,
		"io.atcr.hold.captain": 1, "io.atcr.hold.crew": 1, "io.atcr.hold.layer": 1} {
		require.GreaterOrEqual(t, count[nsid], least, "%s of %v", nsid, count)
	}
}

// Somebody else's records under the keys that ours would have, of forms that cannot be read.
func TestUnreadableRecordsAreNotInTheWayOfAPush(t *testing.T) {
	storetest.Each(t, pushOverUnreadableRecords)
}

func pushOverUnreadableRecords(t *testing.T, e storetest.Engine) {
	w := start(t, e, servertest.Options{})
	m, d := w.image("app", "x", "config", "")
	other := []byte(strings.Replace(string(m), `"layers":[]`, `"layers":[],"annotations":{"n":"2"}`, 1))
	w.putRecord("io.atcr.manifest", digest.FromBytes(other).Encoded(), map[string]any{"repository": 7})
	w.putRecord("io.atcr.tag", "app:v1", map[string]any{"tag": []string{"v1"}})
	w.putRecord("io.atcr.tag", "app:v2", map[string]any{"repository": "app", "tag": "of-another-rule", "manifestDigest": string(d), "createdAt": "2025-11-01T00:00:00Z"})
	misfiled := []byte(strings.Replace(string(m), `"layers":[]`, `"layers":[],"annotations":{"n":"3"}`, 1))
	w.putRecord("io.atcr.manifest", digest.FromBytes(misfiled).Encoded(), map[string]any{"repository": "app", "digest": string(digest.FromString("another")),
		"mediaType": imageType, "schemaVersion": 2, "createdAt": "2025-11-01T00:00:00Z", "holdDid": string(w.HoldDID()), "manifestBlob": w.uploadBlob(m)})

	for _, tag := range []string{"v1", "v2"} {
		status, body := w.do(http.MethodPut, "app", "/manifests/"+tag, other, imageType)
		require.Equal(t, 201, status, body)
		status, body = w.do(http.MethodGet, "app", "/manifests/"+tag, nil, "")
		require.Equal(t, 200, status, body)
		require.Equal(t, string(other), body)
	}
	status, body := w.do(http.MethodPut, "app", "/manifests/v3", misfiled, imageType)
	require.Equal(t, 201, status, body)
	status, body = w.do(http.MethodGet, "app", "/tags/list", nil, "")
	require.Equal(t, 200, status, body)
	require.JSONEq(t, `{"name":"alice.test/app","tags":["of-another-rule","v1","v2","v3","x"]}`, body, "and nobody's tag is lost")
	require.Equal(t, 404, w.status(http.MethodGet, "app", "/manifests/"+string(digest.FromString("another"))))
	for _, r := range w.everyRecord(w.Devnet.URL(), w.did()) {
		_, err := lexicons.Validate(r)
		require.NoError(t, err, "%s", r)
	}
}

// The reference PDS takes 150 KiB of JSON in one call: the manifest's record shares them with its tags.
func TestALargeManifestWithManyTagsStaysWithinOneCall(t *testing.T) {
	var largest int64
	w := start(t, storetest.New(t, storetest.File), servertest.Options{WrapPDS: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "applyWrites") {
				b, _ := io.ReadAll(r.Body)
				largest = max(largest, int64(len(b)))
				r.Body = io.NopCloser(strings.NewReader(string(b)))
			}
			next.ServeHTTP(rw, r)
		})
	}})
	repo := strings.Repeat("long/", 40) + "name"
	var tags []string
	for i := range 99 {
		tags = append(tags, fmt.Sprintf("tag=%s%d", strings.Repeat("t", 120), i))
	}
	m, _ := w.image("small", "x", "config", "")
	for _, size := range []int{40_000, 90_000, 260_000} {
		large := []byte(strings.Replace(string(m), `"layers":[]`, `"layers":[],"annotations":{"text":"`+strings.Repeat("x", size)+`"}`, 1))
		status, body := w.do(http.MethodPut, repo, "/manifests/v1?"+strings.Join(tags, "&"), large, imageType)
		require.Equal(t, 201, status, body)
		status, body = w.do(http.MethodGet, repo, "/manifests/v1", nil, "")
		require.Equal(t, 200, status)
		require.Equal(t, string(large), body)
	}
	require.Less(t, largest, int64(150<<10))
	require.Greater(t, largest, int64(100_000), "near the limit")
	for _, r := range w.everyRecord(w.Devnet.URL(), w.did()) {
		_, err := lexicons.Validate(r)
		require.NoError(t, err)
	}
}
