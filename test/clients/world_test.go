package clients

import (
	"os"
	"os/exec"
	"path/filepath"
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

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/test/testenv"
)

// overEachHold runs a test over a hold on a filesystem and over one on S3.
func overEachHold(t *testing.T, test func(*testing.T, *servertest.World)) {
	t.Run("hold on a filesystem", func(t *testing.T) {
		test(t, servertest.Start(t, servertest.Options{}))
	})
	t.Run("hold on S3", func(t *testing.T) {
		s3 := s3test.Start(t)
		test(t, servertest.Start(t, servertest.Options{HoldEnv: map[string]string{
			names.StorageDriver: "s3", names.S3Endpoint: s3.Endpoint, names.S3Bucket: s3.Bucket(t), names.AWSRegion: s3.Region,
			names.AWSAccessKeyID: s3.AccessKey, names.AWSSecretAccessKey: s3.SecretKey,
		}}))
	})
}

const install = "install it with your package manager; hack/test/deps.sh does on Debian"

// client is a program with folders of its own, so that it neither reads nor leaves anything on the machine.
type client struct {
	t    *testing.T
	path string
	home string
	args []string // before every command's own
}

func newClient(t *testing.T, program string, args ...string) *client {
	t.Helper()
	c := &client{t: t, path: testenv.Program(t, program, install), home: t.TempDir(), args: args}
	require.NoError(t, os.WriteFile(filepath.Join(c.home, "auth.json"), []byte("{}"), 0o600))
	return c
}

// run runs one command and returns what it printed.
func (c *client) run(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.path, append(append([]string{}, c.args...), args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.home, "XDG_RUNTIME_DIR="+c.home, "TMPDIR="+c.home, "REGISTRY_AUTH_FILE="+filepath.Join(c.home, "auth.json"))
	out, err := cmd.CombinedOutput()
	require.NoError(c.t, err, "%s %v\n%s", c.path, args, out)
	return string(out)
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
