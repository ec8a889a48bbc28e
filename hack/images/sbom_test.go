package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// withModules is an image whose binary has dependencies.
func withModules(t *testing.T) (spec, options) {
	t.Helper()
	chosen, err := choose([]string{"atcr-hold"})
	require.NoError(t, err)
	return chosen[0], optionsIn(t, runtime.GOARCH)
}

func TestTheBillOfMaterialsListsWhatTheBinarySays(t *testing.T) {
	s, o := withModules(t)
	binary, err := compile(t.Context(), o.root, filepath.Join(o.out, "bin"), s, runtime.GOARCH, o.version)
	require.NoError(t, err)
	text, err := billOfMaterials(s, binary, runtime.GOARCH, o.version)
	require.NoError(t, err)
	again, err := billOfMaterials(s, binary, runtime.GOARCH, o.version)
	require.NoError(t, err)
	require.Equal(t, text, again)

	var d document
	require.NoError(t, json.Unmarshal(text, &d))
	require.Equal(t, "SPDX-2.3", d.SPDXVersion)
	require.Equal(t, "CC0-1.0", d.DataLicense)
	require.Equal(t, "SPDXRef-DOCUMENT", d.SPDXID)
	require.NotEmpty(t, d.CreationInfo.Creators)

	// The go command's own view of the binary is the reference.
	out, err := exec.CommandContext(t.Context(), "go", "version", "-m", binary).Output()
	require.NoError(t, err)
	have := map[string]string{}
	ids := map[string]bool{}
	for _, p := range d.Packages {
		require.Regexp(t, regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`), p.SPDXID)
		require.False(t, ids[p.SPDXID], "two packages %s", p.SPDXID)
		ids[p.SPDXID] = true
		have[p.Name] = p.VersionInfo
		require.Regexp(t, `^pkg:golang/[a-z0-9./_~-]+@[A-Za-z0-9.%_-]+$`, p.ExternalRefs[0].ReferenceLocator)
	}
	modules := regexp.MustCompile(`(?m)^\t(?:dep|=>)\t(\S+)\t(\S+)`).FindAllStringSubmatch(string(out), -1)
	require.Greater(t, len(modules), 20)
	for _, m := range modules {
		require.Equal(t, m[2], have[m[1]], m[1])
	}
	require.Len(t, d.Packages, len(modules)+2, "the modules, the standard library and the program")
	require.Equal(t, strings.TrimPrefix(runtime.Version(), "go"), have["stdlib"])
	require.Equal(t, "v1.2.3", have["atcr-hold"])
	require.Len(t, d.Relationships, len(d.Packages))
	for _, r := range d.Relationships {
		require.True(t, ids[r.RelatedSPDXElement], r.RelatedSPDXElement)
	}
}

// The images go to our own registry like to any other: by a login that docker stored, and with their bills of materials.
func TestImagesArePushedToOurOwnRegistryWithTheirBillsOfMaterials(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	host := strings.TrimPrefix(w.URL, "http://")
	login, err := json.Marshal(map[string]any{"auths": map[string]any{
		host: map[string]string{"username": servertest.Alice, "password": w.Account(servertest.Alice).AppPassword},
	}})
	require.NoError(t, err)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	require.NoError(t, os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), login, 0o600))

	o := optionsIn(t, "amd64", "arm64")
	o.registry, o.push = host+"/"+servertest.Alice, true
	archive := build(t, o)

	tag, err := name.NewTag(o.registry + "/pause:v1.2.3")
	require.NoError(t, err)
	index, err := remote.Index(tag) // anonymous: the hold of this world is public
	require.NoError(t, err)
	digest, err := index.Digest()
	require.NoError(t, err)
	require.Equal(t, unpack(t, archive).Manifests[0].Digest, digest, "the registry has what the archive has")
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 2)
	for _, platform := range manifest.Manifests {
		bom := referrer(t, tag.Digest(platform.Digest.String()))
		beside, err := os.ReadFile(filepath.Join(o.out, "images", "pause."+platform.Platform.Architecture+".spdx.json"))
		require.NoError(t, err)
		require.Equal(t, string(beside), string(bom))
	}

	// Again, with nothing new: the same digest.
	build(t, o)
	index, err = remote.Index(tag)
	require.NoError(t, err)
	second, err := index.Digest()
	require.NoError(t, err)
	require.Equal(t, digest, second)

	t.Setenv("DOCKER_CONFIG", t.TempDir())
	o.version = "v1.2.4"
	require.ErrorContains(t, o.build(t.Context(), small), "push "+o.registry+"/pause:v1.2.4")
}

// referrer is the bill of materials that refers to an image.
func referrer(t *testing.T, subject name.Digest) []byte {
	t.Helper()
	all, err := remote.Referrers(subject, remote.WithAuth(authn.Anonymous))
	require.NoError(t, err)
	manifest, err := all.IndexManifest()
	require.NoError(t, err)
	var found []v1.Descriptor
	for _, m := range manifest.Manifests {
		if m.ArtifactType == mediaTypeSPDX {
			found = append(found, m)
		}
	}
	require.Len(t, found, 1)
	image, err := remote.Image(subject.Context().Digest(found[0].Digest.String()))
	require.NoError(t, err)
	layers, err := image.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	content, err := layers[0].Compressed()
	require.NoError(t, err)
	defer content.Close()
	var raw json.RawMessage
	require.NoError(t, json.NewDecoder(content).Decode(&raw))
	return append(raw, '\n')
}
