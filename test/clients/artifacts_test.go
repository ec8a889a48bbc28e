package clients

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

func TestHelmPushesAndPullsCharts(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		helm := newTool(t, "helm")
		at := "oci://" + w.Host() + "/alice.test/charts"
		helm.login("registry", "login", "--plain-http", "-u", servertest.Alice, "-p", password(w, servertest.Alice), w.Host())
		helm.run("create", "web")
		helm.run("package", "web", "--version", "1.2.3+build.4") // a tag has _ for the +
		helm.push("push", "--plain-http", "web-1.2.3+build.4.tgz", at)
		helm.run("registry", "logout", w.Host())

		back := filepath.Join(helm.home, "back")
		require.NoError(t, os.Mkdir(back, 0o700))
		helm.pull("pull", "--plain-http", at+"/web", "--version", "1.2.3+build.4", "-d", back)
		require.Equal(t, helm.read("web-1.2.3+build.4.tgz"), helm.read("back/web-1.2.3+build.4.tgz"))
		require.Contains(t, helm.run("show", "chart", "--plain-http", at+"/web"), "version: 1.2.3+build.4", "the newest by the list of tags")
		helm.note("OCI charts")
	})
}

func TestOrasAttachesAndCopiesWithWhatIsAttached(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		oras := newTool(t, "oras")
		at := w.Host() + "/alice.test/oras-cli"
		oras.login("login", "--plain-http", "-u", servertest.Alice, "-p", password(w, servertest.Alice), w.Host())
		oras.write("data.txt", "some data")
		oras.write("sbom.json", `{"spdxVersion":"SPDX-2.3"}`)
		oras.push("push", "--plain-http", "--artifact-type", "application/vnd.example.data", at+":v1,latest", "data.txt:text/plain")

		oras.run("attach", "--plain-http", "--artifact-type", "application/spdx+json", at+":v1", "sbom.json:application/spdx+json")
		require.Equal(t, []string{"application/spdx+json"}, oras.discovers(at+":v1"))
		// A client that does not trust a registry to have the referrers API keeps an index under the fall-back tag.
		oras.write("scan.json", `{}`)
		oras.run("attach", "--plain-http", "--distribution-spec", "v1.1-referrers-tag", "--artifact-type", "application/vnd.example.scan", at+":v1", "scan.json")
		require.ElementsMatch(t, []string{"application/spdx+json", "application/vnd.example.scan"}, oras.discovers(at+":v1"))

		oras.pull("pull", "--plain-http", "-o", "back", at+":latest")
		require.Equal(t, "some data", oras.read("back/data.txt"))
		oras.run("copy", "-r", "--from-plain-http", "--to-plain-http", at+":v1", w.Host()+"/alice.test/oras-copy:v1")
		require.ElementsMatch(t, []string{"application/spdx+json", "application/vnd.example.scan"}, oras.discovers(w.Host()+"/alice.test/oras-copy:v1"))

		require.Contains(t, oras.run("repo", "tags", "--plain-http", at), "latest")
		require.Contains(t, oras.run("repo", "ls", "--plain-http", w.Host()), "alice.test/oras-cli")
		oras.run("manifest", "delete", "--plain-http", "-f", at+":latest")
		oras.note("attach, discover, referrers by tag, copy -r, delete")
	})
}

// discovers are the artifact types of what `oras discover` finds attached.
func (c *client) discovers(ref string) []string {
	c.t.Helper()
	var out struct {
		Referrers []struct{ ArtifactType string }
	}
	said := c.run("discover", "--plain-http", "--format", "json", ref)
	require.NoError(c.t, json.Unmarshal([]byte(said), &out), said)
	var types []string
	for _, r := range out.Referrers {
		types = append(types, r.ArtifactType)
	}
	return types
}

func TestRegctlCopiesTagsAndDeletes(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		regctl := newTool(t, "regctl")
		at := w.Host() + "/alice.test/regctl"
		image, index := randomImage(t), randomIndex(t)
		digest, err := image.Digest()
		require.NoError(t, err)
		indexDigest, err := index.Digest()
		require.NoError(t, err)

		regctl.run("registry", "set", w.Host(), "--tls", "disabled")
		regctl.login("registry", "login", w.Host(), "-u", servertest.Alice, "-p", password(w, servertest.Alice))
		regctl.push("image", "copy", "ocidir://"+ociLayout(t, image)+"@"+digest.String(), at+":one")
		requireServed(t, reference(t, w, "alice.test/regctl:one"), image)
		regctl.push("image", "copy", "ocidir://"+ociLayout(t, index)+"@"+indexDigest.String(), at+":all")
		requireIndexServed(t, reference(t, w, "alice.test/regctl:all"), index)
		regctl.pull("image", "copy", at+":one", "ocidir://"+filepath.Join(regctl.home, "back")+":one")
		requireSame(t, image.RawManifest, firstOf(t, filepath.Join(regctl.home, "back")).RawManifest)

		regctl.run("image", "copy", at+":one", w.Host()+"/alice.test/regctl-copy:one") // mounts
		requireServed(t, reference(t, w, "alice.test/regctl-copy:one"), image)
		blob := lastLine(regctl.runWith("one blob", "blob", "put", at))
		require.Equal(t, "one blob", regctl.run("blob", "get", at, blob))
		regctl.run("blob", "delete", at, blob)

		require.Equal(t, []string{"all", "one"}, strings.Fields(regctl.run("tag", "ls", at)))
		regctl.run("tag", "delete", at+":one")
		require.Equal(t, []string{"all"}, strings.Fields(regctl.run("tag", "ls", at)))
		regctl.run("manifest", "delete", at+"@"+digest.String())
		_, err = remote.Head(reference(t, w, "alice.test/regctl@"+digest.String()))
		require.ErrorContains(t, err, "404")
		regctl.note("indexes, mount, blobs, tags, delete")
	})
}

// A signature as cosign makes it: a bundle that refers to the image, and, before version 3, a tag. Either client sees
// what the other has attached.
func TestSignaturesAreSeenByEveryClient(t *testing.T) {
	const bundle, attestation = "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.in-toto+json"
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		regctl, oras := newTool(t, "regctl"), newTool(t, "oras")
		image := randomImage(t)
		digest, err := image.Digest()
		require.NoError(t, err)
		at := w.Host() + "/alice.test/signed"
		require.NoError(t, remote.Write(reference(t, w, "alice.test/signed:v1"), image, remote.WithAuth(w.Auth(servertest.Alice))))

		regctl.run("registry", "set", w.Host(), "--tls", "disabled")
		regctl.run("registry", "login", w.Host(), "-u", servertest.Alice, "-p", password(w, servertest.Alice))
		oras.run("login", "--plain-http", "-u", servertest.Alice, "-p", password(w, servertest.Alice), w.Host())

		regctl.runWith(`{"signature":1}`, "artifact", "put", "--artifact-type", bundle, "--file-media-type", bundle, "--subject", at+":v1")
		oras.write("attestation.json", `{"_type":"https://in-toto.io/Statement/v1"}`)
		oras.run("attach", "--plain-http", "--artifact-type", attestation, at+":v1", "attestation.json:"+attestation)
		oldTag := strings.Replace(digest.String(), ":", "-", 1) + ".sig"
		oras.run("push", "--plain-http", at+":"+oldTag, "attestation.json:application/vnd.dev.cosign.simplesigning.v1+json")

		require.ElementsMatch(t, []string{bundle, attestation}, oras.discovers(at+":v1"))
		listed := regctl.run("artifact", "list", at+":v1", "--format", "{{range .Descriptors}}{{.ArtifactType}} {{end}}")
		require.ElementsMatch(t, []string{bundle, attestation}, strings.Fields(listed))
		listed = regctl.run("artifact", "list", at+":v1", "--filter-artifact-type", bundle, "--format", "{{range .Descriptors}}{{.ArtifactType}} {{end}}")
		require.Equal(t, []string{bundle}, strings.Fields(listed))
		require.Equal(t, `{"signature":1}`, regctl.run("artifact", "get", "--subject", at+":v1", "--filter-artifact-type", bundle))
		require.Contains(t, oras.run("repo", "tags", "--plain-http", at), oldTag)
		regctl.note("cosign-style referrers")
		oras.note("cosign-style referrers")
	})
}

// runWith runs one command with an input.
func (c *client) runWith(input string, args ...string) string {
	c.t.Helper()
	cmd := c.command(args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	require.NoError(c.t, err, "%s %v\n%s", c.path, args, out)
	return string(out)
}
