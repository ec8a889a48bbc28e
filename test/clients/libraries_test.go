package clients

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"atcr.io/operator/appview/server/servertest"
)

func TestCranePushesImagesAndIndexes(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		image, index := randomImage(t), randomIndex(t)
		login := remote.WithAuth(w.Auth(servertest.Alice))
		require.NoError(t, remote.Write(reference(t, w, "alice.test/crane:one"), image, login))
		require.NoError(t, remote.WriteIndex(reference(t, w, "alice.test/crane:all"), index, login))
		requireServed(t, reference(t, w, "alice.test/crane:one"), image)
		requireIndexServed(t, reference(t, w, "alice.test/crane:all"), index)
		l := enter(t, "go-containerregistry (library)", moduleVersion(t, "github.com/google/go-containerregistry"))
		l.did(canLogin)
		l.did(canPush)
		l.did(canPull)
	})
}

// A Helm chart is an artifact with a config of its own media type; oras pushes it as `helm push` does.
func TestOrasPushesAChartAndAttachesASignature(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		repository := orasRepository(t, w, "alice.test/charts/web")
		local := memory.New()
		config := put(t, local, "application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"web","version":"1.2.3","apiVersion":"v2"}`))
		chart := put(t, local, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", bytes.Repeat([]byte("a chart "), 4096))
		pushed, err := oras.PackManifest(t.Context(), local, oras.PackManifestVersion1_1, "", oras.PackManifestOptions{
			ConfigDescriptor: &config, Layers: []ocispec.Descriptor{chart},
			ManifestAnnotations: map[string]string{ocispec.AnnotationTitle: "web", ocispec.AnnotationCreated: "2026-01-02T03:04:05Z"},
		})
		require.NoError(t, err)
		require.NoError(t, local.Tag(t.Context(), pushed, "1.2.3"))
		_, err = oras.Copy(t.Context(), local, "1.2.3", repository, "1.2.3", oras.DefaultCopyOptions)
		require.NoError(t, err)

		back := memory.New()
		pulled, err := oras.Copy(t.Context(), repository, "1.2.3", back, "", oras.DefaultCopyOptions)
		require.NoError(t, err)
		require.Equal(t, pushed.Digest, pulled.Digest)
		for _, d := range []ocispec.Descriptor{pushed, config, chart} {
			require.Equal(t, fetch(t, local, d), fetch(t, back, d))
		}

		signature := put(t, local, "application/vnd.example.signature", []byte("signed"))
		attached, err := oras.PackManifest(t.Context(), local, oras.PackManifestVersion1_1, "application/vnd.example.signature.v1", oras.PackManifestOptions{
			Subject: &pushed, Layers: []ocispec.Descriptor{signature},
		})
		require.NoError(t, err)
		require.NoError(t, oras.CopyGraph(t.Context(), local, repository, attached, oras.DefaultCopyGraphOptions))
		var found []godigest.Digest
		require.NoError(t, repository.Referrers(t.Context(), pushed, "", func(referrers []ocispec.Descriptor) error {
			for _, r := range referrers {
				found = append(found, r.Digest)
			}
			return nil
		}))
		require.Equal(t, []godigest.Digest{attached.Digest}, found)
		l := enter(t, "oras-go (library)", moduleVersion(t, "oras.land/oras-go/v2"))
		l.did(canLogin)
		l.did(canPush)
		l.did(canPull)
		l.note("referrers")
	})
}

func orasRepository(t *testing.T, w *servertest.World, name string) *orasremote.Repository {
	t.Helper()
	repository, err := orasremote.NewRepository(w.Host() + "/" + name)
	require.NoError(t, err)
	repository.PlainHTTP = true
	repository.Client = &auth.Client{Cache: auth.NewCache(), Credential: func(context.Context, string) (auth.Credential, error) {
		return auth.Credential{Username: servertest.Alice, Password: w.Account(servertest.Alice).AppPassword}, nil
	}}
	return repository
}

type pusher interface {
	Push(context.Context, ocispec.Descriptor, io.Reader) error
}

func put(t *testing.T, store pusher, mediaType string, content []byte) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(content), Size: int64(len(content))}
	require.NoError(t, store.Push(t.Context(), d, bytes.NewReader(content)), fmt.Sprint(mediaType))
	return d
}

type fetcher interface {
	Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error)
}

func fetch(t *testing.T, store fetcher, d ocispec.Descriptor) []byte {
	t.Helper()
	r, err := store.Fetch(t.Context(), d)
	require.NoError(t, err)
	defer r.Close()
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	return all
}
