package main

import (
	"archive/tar"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/test/testenv"
)

// small is an image whose binary compiles in no time; it goes the same way as every other.
var small = spec{
	Name: "pause", Package: "./hack/images/pause", Title: "pause", About: "test", Data: []string{"var/lib/pause"},
}

func optionsIn(t *testing.T, arches ...string) options {
	t.Helper()
	return options{root: filepath.Join("..", ".."), out: t.TempDir(), version: "v1.2.3", registry: "atcr.local", arches: arches}
}

func build(t *testing.T, o options) string {
	t.Helper()
	require.NoError(t, o.build(t.Context(), small))
	return filepath.Join(o.out, "images", "pause.oci.tar")
}

func TestTwoRunsGiveTheSameArchive(t *testing.T) {
	first, err := os.ReadFile(build(t, optionsIn(t, runtime.GOARCH)))
	require.NoError(t, err)
	second, err := os.ReadFile(build(t, optionsIn(t, runtime.GOARCH)))
	require.NoError(t, err)
	require.Equal(t, first, second)
}

func TestAnotherFolderGivesTheSameArchive(t *testing.T) {
	first, err := os.ReadFile(build(t, optionsIn(t, "amd64", "arm64")))
	require.NoError(t, err)
	o := optionsIn(t, "amd64", "arm64")
	elsewhere := t.TempDir()
	for _, file := range []string{"go.mod", "go.sum", "hack/images/pause/main.go"} {
		text, err := os.ReadFile(filepath.Join(o.root, file))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(elsewhere, file)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(elsewhere, file), text, 0o644))
	}
	o.root = elsewhere
	second, err := os.ReadFile(build(t, o))
	require.NoError(t, err)
	require.Equal(t, first, second)
}

// What decides the bytes is in the sources and go.mod: nothing of the machine, such as its certificates, gets in.
func TestTheCertificatesAreThoseOfGoMod(t *testing.T) {
	text, err := rootCertificates()
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	count := strings.Count(string(text), "BEGIN CERTIFICATE")
	require.Greater(t, count, 100)
	again, err := rootCertificates()
	require.NoError(t, err)
	require.Equal(t, text, again)
}

func TestAnotherVersionGivesAnotherDigest(t *testing.T) {
	o := optionsIn(t, runtime.GOARCH)
	first := unpack(t, build(t, o))
	o.version = "v1.2.4"
	second := unpack(t, build(t, o))
	require.NotEqual(t, first.Manifests[0].Digest, second.Manifests[0].Digest)
	require.Equal(t, "atcr.local/pause:v1.2.4", second.Manifests[0].Annotations[ociRefName])
}

func TestAnImageRunsAsNonRootAndOwnsItsData(t *testing.T) {
	image, err := assemble(small, []byte("program"), []byte("certificates"), "arm64", "v1.2.3")
	require.NoError(t, err)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, []string{"/pause"}, config.Config.Entrypoint)
	require.Equal(t, "linux/arm64", config.OS+"/"+config.Architecture)
	require.Equal(t, "v1.2.3", config.Config.Labels["org.opencontainers.image.version"])
	for _, label := range []string{"title", "description", "source"} {
		require.NotEmpty(t, config.Config.Labels["org.opencontainers.image."+label], label)
	}

	files := filesOf(t, image)
	require.Equal(t, int64(0o1777), files["tmp/"].Mode)
	require.Equal(t, 65532, files["var/lib/pause/"].Uid)
	require.Equal(t, 0, files["var/lib/"].Uid, "only the data folder belongs to the program")
	require.Equal(t, int64(0o755), files["pause"].Mode)
	require.Contains(t, files, "etc/ssl/certs/ca-certificates.crt")
}

func TestSeveralArchitecturesMakeAnIndex(t *testing.T) {
	index := unpack(t, build(t, optionsIn(t, "amd64", "arm64")))
	require.Len(t, index.Manifests, 1)
	require.True(t, index.Manifests[0].MediaType.IsIndex())
}

func TestSkopeoReadsTheArchive(t *testing.T) {
	skopeo := testenv.Program(t, "skopeo", "hack/test/deps.sh installs it")
	archive := build(t, optionsIn(t, "amd64", "arm64"))
	target := filepath.Join(t.TempDir(), "copy")
	output, err := exec.CommandContext(t.Context(), skopeo, "copy", "--all", "oci-archive:"+archive, "dir:"+target).CombinedOutput()
	require.NoError(t, err, string(output))
}

func TestAnUnknownNameIsRefused(t *testing.T) {
	_, err := choose([]string{"product", "nonsense"})
	require.ErrorContains(t, err, `"nonsense"`)
	chosen, err := choose([]string{"pause", "node"})
	require.NoError(t, err)
	require.Len(t, chosen, 2, "an image named twice is built once")
}

// unpack reads the archive's top index.
func unpack(t *testing.T, archive string) *v1.IndexManifest {
	t.Helper()
	folder := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", folder).CombinedOutput()
	require.NoError(t, err, string(output))
	index, err := layout.ImageIndexFromPath(folder)
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	return manifest
}

// filesOf lists what all layers hold, by name.
func filesOf(t *testing.T, image v1.Image) map[string]*tar.Header {
	t.Helper()
	files := map[string]*tar.Header{}
	layers, err := image.Layers()
	require.NoError(t, err)
	for _, l := range layers {
		content, err := l.Uncompressed()
		require.NoError(t, err)
		r := tar.NewReader(content)
		for {
			header, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			require.NotContains(t, files, header.Name, fmt.Sprintf("%s is in two layers", header.Name))
			files[header.Name] = header
		}
	}
	return files
}
