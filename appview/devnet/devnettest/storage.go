package devnettest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/stretchr/testify/require"
)

func (s *suite) blobs(t *testing.T) {
	c := s.app.in(t)
	content := []byte(`{"schemaVersion":2,"run":"` + rand.Text() + `"}`)
	const mimeType = "application/vnd.oci.image.manifest.v1+json"
	up := c.upload(mimeType, content).ok()
	blob := up["blob"].(map[string]any)
	require.Equal(t, mimeType, up.str("blob", "mimeType"))
	require.EqualValues(t, len(content), blob["size"])
	cid := up.str("blob", "ref", "$link")
	fetch := func() answer { return s.anon.in(t).get("com.atproto.sync.getBlob", "did", s.did, "cid", cid) }
	fetch().fails(http.StatusBadRequest, "")

	s.put(c, "blob1", obj{"$type": s.collection, "blob": blob}).ok()
	got := fetch()
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, content, got.body)
	require.Equal(t, mimeType, got.header.Get("Content-Type"))
	require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))

	s.put(c, "blob2", obj{"$type": s.collection, "blob": blob}).ok()
	c.post("com.atproto.repo.deleteRecord", obj{"repo": s.did, "collection": s.collection, "rkey": "blob1"}).ok()
	require.Equal(t, http.StatusOK, fetch().status, "another record still names it")
	c.post("com.atproto.repo.deleteRecord", obj{"repo": s.did, "collection": s.collection, "rkey": "blob2"}).ok()
	require.Eventually(t, func() bool { return fetch().status == http.StatusBadRequest }, 10*time.Second, 50*time.Millisecond)

	other := c.upload("text/plain", []byte(rand.Text())).ok()["blob"].(map[string]any)
	other["mimeType"] = "image/png"
	s.put(c, "mime", obj{"$type": s.collection, "blob": other}).fails(http.StatusBadRequest, "InvalidMimeType")
	other["ref"] = map[string]any{"$link": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}
	s.put(c, "absent", obj{"$type": s.collection, "blob": other}).fails(http.StatusBadRequest, "BlobNotFound")

	c.upload("application/octet-stream", bytes.Repeat([]byte{7}, 5<<20)).ok()
	c.upload("application/octet-stream", bytes.Repeat([]byte{7}, 5<<20+1)).fails(http.StatusRequestEntityTooLarge, "PayloadTooLarge")
	s.anon.in(t).upload("text/plain", content).fails(http.StatusUnauthorized, "AuthMissing")
}

func (s *suite) sync(t *testing.T) {
	c := s.anon.in(t)
	s.put(s.app.in(t), "synced", s.record("x")).ok()
	export := c.get("com.atproto.sync.getRepo", "did", s.did)
	require.Equal(t, http.StatusOK, export.status)
	require.Equal(t, "application/vnd.ipld.car", export.header.Get("Content-Type"))
	commit, r, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(export.body))
	require.NoError(t, err)
	require.NoError(t, r.MST.Verify())
	id := s.document(t)
	key, err := id.PublicKey()
	require.NoError(t, err)
	require.NoError(t, commit.VerifySignature(key), "the commit is signed by the key of the DID document")
	path, err := r.MST.Get([]byte(s.collection + "/synced"))
	require.NoError(t, err)
	require.NotNil(t, path)

	status := c.get("com.atproto.sync.getRepoStatus", "did", s.did).ok()
	require.Equal(t, commit.Rev, status.str("rev"))
	require.Equal(t, true, status["active"])
	proof := c.get("com.atproto.sync.getRecord", "did", s.did, "collection", s.collection, "rkey", "synced")
	require.Equal(t, http.StatusOK, proof.status)
	_, err = repoWith(t, proof.body, s.collection+"/synced")
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(c.get("com.atproto.sync.listRepos", "limit", "1000").ok()["repos"]), s.did)
	nobody := "did:plc:" + strings.Repeat("a", 24)
	c.get("com.atproto.sync.getLatestCommit", "did", nobody).fails(http.StatusBadRequest, "RepoNotFound")
	c.get("com.atproto.sync.getRepo", "did", nobody).fails(http.StatusBadRequest, "RepoNotFound")
}

func repoWith(t *testing.T, car []byte, path string) (*repo.Repo, error) {
	t.Helper()
	_, r, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(car))
	if err != nil {
		return nil, err
	}
	c, err := r.MST.Get([]byte(path))
	require.NoError(t, err)
	require.NotNil(t, c)
	_, err = r.RecordStore.Get(t.Context(), *c)
	return r, err
}
