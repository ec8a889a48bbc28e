package clients

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// Old clients and old images: the media types from before OCI.
func TestDockersOwnMediaTypesAreServedAsPushed(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		skopeo := newClient(t, "skopeo", "--insecure-policy")
		creds := servertest.Alice + ":" + password(w, servertest.Alice)
		skopeo.run("copy", "--format", "v2s2", "--dest-tls-verify=false", "--dest-creds", creds,
			"oci:"+ociLayout(t, randomImage(t)), "docker://"+w.Host()+"/alice.test/old:image")
		skopeo.run("copy", "--all", "--format", "v2s2", "--dest-tls-verify=false", "--dest-creds", creds,
			"oci:"+ociLayout(t, platformIndex(t)), "docker://"+w.Host()+"/alice.test/old:list")

		image, err := remote.Get(reference(t, w, "alice.test/old:image"))
		require.NoError(t, err)
		require.Equal(t, types.DockerManifestSchema2, image.MediaType)
		list, err := remote.Get(reference(t, w, "alice.test/old:list"))
		require.NoError(t, err)
		require.Equal(t, types.DockerManifestList, list.MediaType)
		index, err := list.ImageIndex()
		require.NoError(t, err)
		manifest, err := index.IndexManifest()
		require.NoError(t, err)
		require.Len(t, manifest.Manifests, 2)
		for _, child := range manifest.Manifests {
			require.Equal(t, types.DockerManifestSchema2, child.MediaType)
		}
		podman := newClient(t, "podman", storage(t)...)
		podman.run("pull", "-q", "--tls-verify=false", w.Host()+"/alice.test/old:list") // chooses the platform
		skopeo.note("schema2, manifest lists")
		podman.note("schema2 manifest lists")
	})
}

func TestLayersInZstd(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		creds := servertest.Alice + ":" + password(w, servertest.Alice)
		source, target := ociLayout(t, randomImage(t)), "docker://"+w.Host()+"/alice.test/zstd:"

		skopeo := newClient(t, "skopeo", "--insecure-policy")
		skopeo.run("copy", "--dest-compress-format", "zstd", "--dest-tls-verify=false", "--dest-creds", creds, "oci:"+source, target+"skopeo")
		requireLayers(t, w, "alice.test/zstd:skopeo", types.OCILayerZStd)
		skopeo.note("zstd")

		buildah := newClient(t, "buildah", storage(t)...)
		id := lastLine(buildah.run("pull", "-q", "oci:"+source))
		buildah.run("push", "--compression-format", "zstd", "--tls-verify=false", "--creds", creds, id, target+"buildah")
		requireLayers(t, w, "alice.test/zstd:buildah", types.OCILayerZStd)
		buildah.run("rmi", "-f", id)
		require.Equal(t, id, lastLine(buildah.run("pull", "-q", "--tls-verify=false", target[len("docker://"):]+"buildah")), "unpacks to the same image")
		buildah.note("zstd")
	})
}

func requireLayers(t *testing.T, w *servertest.World, name string, want types.MediaType) {
	t.Helper()
	image, err := remote.Image(reference(t, w, name))
	require.NoError(t, err)
	layers, err := image.Layers()
	require.NoError(t, err)
	require.NotEmpty(t, layers)
	for _, l := range layers {
		got, err := l.MediaType()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// An eStargz layer is a gzip that can be read by parts: a snapshotter that pulls lazily asks for the table of contents
// at its end and then for the files that a container opens.
func TestAnEStargzLayerIsReadByParts(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		raw := tarOf(t, map[string][]byte{"etc/wanted": []byte("this file only"), "usr/large": randomBytes(t, 4<<20)})
		built, err := estargz.Build(io.NewSectionReader(bytes.NewReader(raw), 0, int64(len(raw))))
		require.NoError(t, err)
		defer built.Close()
		compressed, err := io.ReadAll(built)
		require.NoError(t, err)
		d := digest.FromBytes(compressed)
		require.NoError(t, remote.WriteLayer(reference(t, w, "alice.test/lazy:v1").Context(), static.NewLayer(compressed, types.OCILayer),
			remote.WithAuth(w.Auth(servertest.Alice))))

		blob := &ranges{t: t, url: w.URL + "/v2/alice.test/lazy/blobs/" + d.String(), token: w.Token("", "repository:alice.test/lazy:pull")}
		layer, err := estargz.Open(io.NewSectionReader(blob, 0, int64(len(compressed))))
		require.NoError(t, err)
		_, err = layer.VerifyTOC(built.TOCDigest())
		require.NoError(t, err)
		file, err := layer.OpenFile("etc/wanted")
		require.NoError(t, err)
		content, err := io.ReadAll(file)
		require.NoError(t, err)
		require.Equal(t, "this file only", string(content))
		require.Less(t, blob.read, int64(len(compressed))/2, "the large file was not asked for")
		l := enter(t, "estargz (library)", moduleVersion(t, "github.com/containerd/stargz-snapshotter/estargz"))
		l.did(canPull)
		l.note("lazy, by ranges")
	})
}

// ranges reads a blob by Range requests, following the redirect to the hold.
type ranges struct {
	t          *testing.T
	url, token string
	read       int64
}

func (r *ranges) ReadAt(p []byte, off int64) (int, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return 0, fmt.Errorf("the answer to a range is %s", resp.Status)
	}
	n, err := io.ReadFull(resp.Body, p)
	r.read += int64(n)
	return n, err
}

// tarOf is a layer's archive before compression.
func tarOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// platformImage is an image of one real layer that runs, as far as its config goes, on an architecture.
func platformImage(t *testing.T, architecture string) v1.Image {
	t.Helper()
	return withLayers(t, architecture, static.NewLayer(tarOf(t, map[string][]byte{"etc/hello": randomBytes(t, 64<<10)}), types.OCIUncompressedLayer))
}
