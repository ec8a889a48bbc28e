package clients

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/server/servertest"
)

// overEachHold runs a test over a hold on a filesystem and over one on S3, side by side.
func overEachHold(t *testing.T, test func(*testing.T, *servertest.World)) {
	t.Run("hold on a filesystem", func(t *testing.T) {
		t.Parallel()
		test(t, servertest.Start(t, servertest.Options{}))
	})
	t.Run("hold on S3", func(t *testing.T) {
		t.Parallel()
		test(t, servertest.Start(t, servertest.Options{HoldEnv: s3test.Start(t).HoldEnv(t)}))
	})
}

// shortDir is a temporary folder with a short path of lower-case letters: podman refuses a run root of more than 50
// characters and makes an image's name of an OCI layout's path.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// storage are the options of podman and buildah for images in a folder of their own.
func storage(t *testing.T) []string {
	t.Helper()
	dir := shortDir(t)
	return []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}
}

// ociLayout writes an image, or an index for two platforms, as an OCI layout for clients to read.
func ociLayout(t *testing.T, content any) string {
	t.Helper()
	dir := shortDir(t)
	path, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	switch c := content.(type) {
	case v1.Image:
		require.NoError(t, path.AppendImage(c))
	case v1.ImageIndex:
		require.NoError(t, path.AppendIndex(c))
	default:
		t.Fatalf("no layout for %T", content)
	}
	return dir
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for range 3 {
		layer, err := random.Layer(1<<20, types.OCIUncompressedLayer)
		require.NoError(t, err)
		image, err = mutate.AppendLayers(image, layer)
		require.NoError(t, err)
	}
	return image
}

func randomIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	index, err := random.Index(256<<10, 2, 2)
	require.NoError(t, err)
	return index
}

func reference(t *testing.T, w *servertest.World, repositoryAndTag string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(w.Host()+"/"+repositoryAndTag, name.Insecure)
	require.NoError(t, err)
	return ref
}

// requireServed pulls a reference anonymously and compares everything with what was pushed: the manifest's bytes, the
// config's, and every layer's.
func requireServed(t *testing.T, ref name.Reference, want v1.Image) {
	t.Helper()
	got, err := remote.Image(ref, remote.WithContext(t.Context()))
	require.NoError(t, err)
	requireSame(t, want.RawManifest, got.RawManifest)
	requireSame(t, want.RawConfigFile, got.RawConfigFile)
	wantLayers, err := want.Layers()
	require.NoError(t, err)
	gotLayers, err := got.Layers()
	require.NoError(t, err)
	require.Len(t, gotLayers, len(wantLayers))
	for i := range wantLayers {
		requireSame(t, content(wantLayers[i]), content(gotLayers[i]))
	}
}

func requireIndexServed(t *testing.T, ref name.Reference, want v1.ImageIndex) {
	t.Helper()
	got, err := remote.Index(ref, remote.WithContext(t.Context()))
	require.NoError(t, err)
	requireSame(t, want.RawManifest, got.RawManifest)
	manifest, err := want.IndexManifest()
	require.NoError(t, err)
	for _, child := range manifest.Manifests {
		image, err := want.Image(child.Digest)
		require.NoError(t, err)
		requireServed(t, ref.Context().Digest(child.Digest.String()), image)
	}
}

func randomBytes(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return b
}

// withLayers is an image for linux on an architecture.
func withLayers(t *testing.T, architecture string, layers ...v1.Layer) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: architecture, RootFS: v1.RootFS{Type: "layers"}})
	require.NoError(t, err)
	image, err = mutate.AppendLayers(image, layers...)
	require.NoError(t, err)
	return image
}

// platformIndex is an index of images for two architectures.
func platformIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: platformImage(t, architecture),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}}})
	}
	return index
}

// moduleVersion is the version of a library that acts as the client.
func moduleVersion(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", path).Output()
	require.NoError(t, err, "go list -m %s", path)
	return strings.Trim(string(out), "v\n")
}

// registryToken is a token of an account for one scope.
func registryToken(t *testing.T, appView, handle, password, scope string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, appView+"/auth/token?scope="+url.QueryEscape(scope), nil)
	require.NoError(t, err)
	req.SetBasicAuth(handle, password)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var out struct{ Token string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	return out.Token
}
