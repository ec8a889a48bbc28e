package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/lexicons"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/test/testenv"
)

// pullCount is what the hold's statistics say of a repository; -1 when there are none.
func pullCount(t *testing.T, w *servertest.World, repository string) int {
	t.Helper()
	resp, err := http.Get(w.HoldURL + "/xrpc/com.atproto.repo.listRecords?" + url.Values{"repo": {string(w.HoldDID())}, "collection": {"io.atcr.hold.stats"}}.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	var out struct {
		Records []struct{ Value json.RawMessage }
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	for _, r := range out.Records {
		_, err := lexicons.Validate(r.Value)
		require.NoError(t, err, "%s", r.Value)
		var s struct {
			Repository string
			PullCount  int
		}
		require.NoError(t, json.Unmarshal(r.Value, &s))
		if s.Repository == repository {
			return s.PullCount
		}
	}
	return -1
}

func pushImages(t *testing.T, w *servertest.World) {
	t.Helper()
	image, err := random.Image(100, 1)
	require.NoError(t, err)
	auth := remote.WithAuth(w.Auth(servertest.Alice))
	for _, repo := range []string{"one", "two"} {
		ref, err := name.ParseReference(w.Host() + "/alice.test/" + repo + ":v1")
		require.NoError(t, err)
		require.NoError(t, remote.WriteIndex(ref, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image}), auth))
	}
	require.Eventually(t, func() bool { return pullCount(t, w, "one") == 0 && pullCount(t, w, "two") == 0 }, time.Minute, 20*time.Millisecond)
}

// pullImage pulls as a client does: the index by tag, then its entry by digest.
func pullImage(t *testing.T, w *servertest.World, repo string, options ...remote.Option) {
	t.Helper()
	ref, err := name.ParseReference(w.Host() + "/alice.test/" + repo + ":v1")
	require.NoError(t, err)
	index, err := remote.Index(ref, options...)
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	image, err := index.Image(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	_, err = image.Manifest()
	require.NoError(t, err)
}

func TestPullsAreCountedByAHoldThatTrustsTheAppView(t *testing.T) {
	port, err := testenv.Port("127.0.0.1") // the AppView's DID is the did:web of its URL
	require.NoError(t, err)
	w := servertest.Start(t, servertest.Options{AppViewAddr: fmt.Sprint("127.0.0.1:", port),
		HoldEnv: map[string]string{"HOLD_APPVIEW_DIDS": fmt.Sprint("did:web:127.0.0.1%3A", port)}})
	pushImages(t, w)
	for range 3 {
		pullImage(t, w, "one") // nobody is logged in, always from the same network
		pullImage(t, w, "one", remote.WithAuth(w.Auth(servertest.Bob)))
	}
	require.Eventually(t, func() bool { return pullCount(t, w, "one") == 2 }, time.Minute, 50*time.Millisecond)
	require.Zero(t, pullCount(t, w, "two"))

	resp, err := http.Get(w.URL + "/.well-known/did.json")
	require.NoError(t, err)
	defer resp.Body.Close()
	var doc struct{ ID string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&doc))
	require.Equal(t, fmt.Sprint("did:web:127.0.0.1%3A", port), doc.ID)
}

func TestAHoldThatTrustsNoAppViewCountsReadersWhoAreLoggedIn(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	pushImages(t, w)
	pullImage(t, w, "one")
	pullImage(t, w, "two", remote.WithAuth(w.Auth(servertest.Bob)))
	require.Eventually(t, func() bool { return pullCount(t, w, "two") == 1 }, time.Minute, 50*time.Millisecond)
	require.Zero(t, pullCount(t, w, "one"), "told of in the same batch")
}

// The operator starts servers that may make no keys, and gives this one only from some release on.
func TestWithoutADIDKeyTheServerStartsAndSignsNothing(t *testing.T) {
	dir := t.TempDir()
	w := servertest.Start(t, servertest.Options{Dir: dir})
	environ := func(change ...string) []string {
		var out []string
		for _, kv := range w.Environ() {
			if !strings.HasPrefix(kv, names.DIDKeyPath+"=") {
				out = append(out, kv)
			}
		}
		return append(out, append([]string{names.AuthKeyRequired + "=true"}, change...)...)
	}
	cfg, err := config.Load(environ(names.DIDKeyPath + "=" + filepath.Join(dir, "missing.key")))
	require.NoError(t, err)
	_, err = cfg.DIDKey(nil)
	require.ErrorContains(t, err, "mount the key there")

	bad := filepath.Join(dir, "bad.key")
	require.NoError(t, os.WriteFile(bad, []byte("no key"), 0o600))
	cfg, err = config.Load(environ(names.DIDKeyPath + "=" + bad))
	require.NoError(t, err)
	_, err = cfg.DIDKey(nil)
	require.ErrorContains(t, err, "want a P-256 private key")

	made := filepath.Join(dir, "appview", "did.key")
	cfg, err = config.Load(environ(names.DIDKeyPath + "=" + made))
	require.NoError(t, err)
	first, err := cfg.DIDKey(nil)
	require.NoError(t, err)
	again, err := cfg.DIDKey(nil)
	require.NoError(t, err)
	require.True(t, first.Equal(again))

	cfg, err = config.Load(environ())
	require.NoError(t, err)
	cfg.DIDKeyPath = filepath.Join(dir, "nothing", "here.key") // the default path, where this machine may have one
	key, err := cfg.DIDKey(nil)
	require.NoError(t, err)
	require.Nil(t, key)
}
