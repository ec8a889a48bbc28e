package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

const ociImage = "application/vnd.oci.image.manifest.v1+json"

// referrerPages follows the pages of a list of referrers, and gives those listed with their annotations.
func referrerPages(t *testing.T, c client, w *servertest.World, d digest.Digest) (listed map[digest.Digest]map[string]string, pages int) {
	t.Helper()
	listed = map[digest.Digest]map[string]string{}
	for next := "/v2/" + app + "/referrers/" + string(d); next != ""; pages++ {
		resp := c.do(w, http.MethodGet, next, nil)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%.300s", body)
		require.Less(t, len(body), 4<<20, "clients refuse more")
		var page struct {
			Manifests []struct {
				Digest      digest.Digest
				Annotations map[string]string
			}
		}
		require.NoError(t, json.Unmarshal(body, &page))
		for _, m := range page.Manifests {
			require.NotContains(t, listed, m.Digest)
			listed[m.Digest] = m.Annotations
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	return listed, pages
}

func TestAManifestWithMegabytesOfAnnotationsIsServedWholeAndListedWithout(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	config := push(t, w, app, []byte("{}"))
	subject := digest.FromString("subject")
	of := func(annotations map[string]string) []byte {
		all, err := json.Marshal(annotations)
		require.NoError(t, err)
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[],
			"subject":{"mediaType":%q,"digest":%q,"size":7},"annotations":%s}`, ociImage, config, ociImage, subject, all)
	}
	many := map[string]string{}
	for i := range 390 {
		many[fmt.Sprint(i)] = strings.Repeat("A", 10_000)
	}
	large, small := of(many), of(map[string]string{"k": "v"})
	require.Greater(t, len(large), 3_900_000)
	for _, body := range [][]byte{large, small} {
		require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, string(digest.FromBytes(body)), body).StatusCode)
	}
	c := client{t, w.Token("", "repository:"+app+":pull")}
	for _, server := range []*servertest.World{w, w.Fresh()} { // one has it from the push, the other from the record
		c.token = server.Token("", "repository:"+app+":pull")
		resp := c.do(server, http.MethodGet, "/v2/"+app+"/manifests/"+string(digest.FromBytes(large)), nil)
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, string(large) == string(got), "byte for byte")
		listed, pages := referrerPages(t, c, server, subject)
		require.Equal(t, 1, pages)
		require.Equal(t, map[digest.Digest]map[string]string{digest.FromBytes(large): nil, digest.FromBytes(small): {"k": "v"}}, listed)
	}
}

// A list is answered from memory as it was, until anything of the owner's changes, at whatever replica.
func TestAListOfReferrersIsRememberedUntilTheNextPushOrDeletionAtAnyReplica(t *testing.T) {
	a, b := replicas(t, servertest.Options{})
	config := push(t, a, app, []byte("{}"))
	subject := digest.FromString("subject")
	all := client{t, a.Token(servertest.Alice, "repository:"+app+":pull,push,delete")}
	want := map[digest.Digest]map[string]string{}
	seen := func() {
		t.Helper()
		for _, w := range []*servertest.World{a, b} {
			for range 2 {
				listed, _ := referrerPages(t, all, w, subject)
				require.Equal(t, want, listed)
			}
		}
	}
	seen()
	from, to := a, b
	for i := range 4 {
		n := fmt.Sprint(i)
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[],
			"subject":{"mediaType":%q,"digest":%q,"size":7},"annotations":{"n":%q}}`, ociImage, config, ociImage, subject, n)
		require.Equal(t, http.StatusCreated, putManifest(from, servertest.Alice, app, string(digest.FromBytes(body)), body).StatusCode)
		want[digest.FromBytes(body)] = map[string]string{"n": n}
		seen()
		from, to = to, from
	}
	require.Contains(t, scrape(t, to.DebugURL), `atcr_cache_requests_total{cache="referrers",result="hit"} 4`, "of the second look after each push")
	for d := range want {
		require.Equal(t, http.StatusAccepted, all.do(to, http.MethodDelete, "/v2/"+app+"/manifests/"+string(d), nil).StatusCode)
		delete(want, d)
		seen()
		from, to = to, from
	}
}

// Of manifests that only an index under the fall-back tag names, a request reads as many as it shows.
func TestAPageOfTaggedReferrersReadsNoMoreThanItShows(t *testing.T) {
	const all = 80
	var pds calls
	w := servertest.Start(t, servertest.Options{WrapPDS: pds.wrap})
	config := push(t, w, app, []byte("{}"))
	var entries []string
	for i := range all {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[],"annotations":{"n":"%d","k":%q}}`,
			ociImage, config, i, strings.Repeat("x", 60_000))
		require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, string(digest.FromBytes(body)), body).StatusCode)
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, ociImage, digest.FromBytes(body), len(body)))
	}
	subject := digest.FromString("subject")
	list := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}`, strings.Join(entries, ","))
	resp := w.Do(servertest.Alice, http.MethodPut, "/v2/"+app+"/manifests/sha256-"+subject.Encoded(), app, strings.NewReader(list),
		http.Header{"Content-Type": {"application/vnd.oci.image.index.v1+json"}})
	require.Equal(t, http.StatusCreated, resp.StatusCode)

	other := w.Fresh()
	c := client{t, other.Token("", "repository:"+app+":pull")}
	pds.forget()
	require.Equal(t, http.StatusOK, c.do(other, http.MethodGet, "/v2/"+app+"/referrers/"+string(subject), nil).StatusCode)
	require.Less(t, pds.of("com.atproto.sync.getBlob"), 60, "manifests read for one page")
	listed, pages := referrerPages(t, c, other, subject)
	require.Len(t, listed, all)
	require.Equal(t, 2, pages)
}
