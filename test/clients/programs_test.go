package clients

import (
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

func TestSkopeoCopiesImagesAndIndexesThereAndBack(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		skopeo := newClient(t, "skopeo", "--insecure-policy")
		creds := servertest.Alice + ":" + password(w, servertest.Alice)
		image, index := randomImage(t), randomIndex(t)

		skopeo.login("login", "--tls-verify=false", "-u", servertest.Alice, "-p", password(w, servertest.Alice), w.Host())
		skopeo.push("copy", "--dest-tls-verify=false", "oci:"+ociLayout(t, image), "docker://"+w.Host()+"/alice.test/skopeo:one")
		requireServed(t, reference(t, w, "alice.test/skopeo:one"), image)

		skopeo.push("copy", "--all", "--dest-tls-verify=false", "--dest-creds", creds, "oci:"+ociLayout(t, index), "docker://"+w.Host()+"/alice.test/skopeo:all")
		requireIndexServed(t, reference(t, w, "alice.test/skopeo:all"), index)

		back := filepath.Join(t.TempDir(), "back")
		skopeo.pull("copy", "--src-tls-verify=false", "docker://"+w.Host()+"/alice.test/skopeo:one", "oci:"+back)
		requireSame(t, image.RawManifest, firstOf(t, back).RawManifest)

		require.Contains(t, skopeo.run("list-tags", "--tls-verify=false", "docker://"+w.Host()+"/alice.test/skopeo"), `"all"`)
		skopeo.run("delete", "--tls-verify=false", "--creds", creds, "docker://"+w.Host()+"/alice.test/skopeo:one")
		_, err := remote.Head(reference(t, w, "alice.test/skopeo:one"))
		require.ErrorContains(t, err, "404")
		skopeo.note("indexes, tags, delete")
	})
}

func TestPodmanLogsInPushesAndPulls(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		podman := newClient(t, "podman", storage(t)...)
		target := w.Host() + "/alice.test/podman:v1"
		podman.login("login", "--tls-verify=false", "-u", servertest.Alice, "-p", password(w, servertest.Alice), w.Host())
		id := lastLine(podman.run("pull", "-q", "oci:"+ociLayout(t, randomImage(t))))
		podman.push("push", "--tls-verify=false", id, target)
		podman.run("rmi", "-f", id)
		podman.run("logout", w.Host())
		require.Equal(t, id, lastLine(podman.pull("pull", "-q", "--tls-verify=false", target)), "the image id is the digest of its config")
	})
}

func TestBuildahCommitsPushesAndPulls(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		buildah := newClient(t, "buildah", storage(t)...)
		target := w.Host() + "/bob.test/team/built:v1"
		buildah.login("login", "--tls-verify=false", "-u", servertest.Bob, "-p", password(w, servertest.Bob), w.Host())
		container := lastLine(buildah.run("from", "scratch"))
		buildah.run("config", "--label", "built=here", "--author", "bob", container)
		id := lastLine(buildah.run("commit", "-q", container))
		buildah.push("push", "--tls-verify=false", id, "docker://"+target)
		buildah.run("rm", container)
		buildah.run("rmi", "-f", id)
		require.Equal(t, id, lastLine(buildah.pull("pull", "-q", "--tls-verify=false", target)))
	})
}

func TestCraneCopiesTagsAndDeletes(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		crane := newTool(t, "crane")
		at := w.Host() + "/alice.test/crane-cli"
		image := randomImage(t)
		digest, err := image.Digest()
		require.NoError(t, err)

		crane.login("auth", "login", w.Host(), "-u", servertest.Alice, "-p", password(w, servertest.Alice))
		crane.push("push", ociLayout(t, image), at+":one")
		crane.run("validate", "--remote", at+":one") // reads every layer
		crane.pull("pull", "--format", "oci", at+":one", "back")
		requireSame(t, image.RawManifest, firstOf(t, filepath.Join(crane.home, "back")).RawManifest)

		crane.run("tag", at+":one", "two")
		require.Equal(t, digest.String(), lastLine(crane.run("digest", at+":two")))
		require.Equal(t, []string{"one", "two"}, strings.Fields(crane.run("ls", at)))
		crane.run("copy", at+":one", w.Host()+"/alice.test/crane-copy:one")
		requireServed(t, reference(t, w, "alice.test/crane-copy:one"), image)
		require.ElementsMatch(t, []string{"alice.test/crane-cli", "alice.test/crane-copy"}, strings.Fields(crane.run("catalog", w.Host())))
		crane.run("delete", at+":one")
		require.Equal(t, []string{"two"}, strings.Fields(crane.run("ls", at)))
		crane.note("mount, tags, catalog, delete")
	})
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// firstOf is the first image of an OCI layout.
func firstOf(t *testing.T, dir string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	image, err := index.Image(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	return image
}
