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
		creds := servertest.Alice + ":" + w.Account(servertest.Alice).AppPassword
		image, index := randomImage(t), randomIndex(t)

		skopeo.run("copy", "--dest-tls-verify=false", "--dest-creds", creds, "oci:"+ociLayout(t, image), "docker://"+w.Host()+"/alice.test/skopeo:one")
		requireServed(t, reference(t, w, "alice.test/skopeo:one"), image)

		skopeo.run("copy", "--all", "--dest-tls-verify=false", "--dest-creds", creds, "oci:"+ociLayout(t, index), "docker://"+w.Host()+"/alice.test/skopeo:all")
		requireIndexServed(t, reference(t, w, "alice.test/skopeo:all"), index)

		back := filepath.Join(t.TempDir(), "back")
		skopeo.run("copy", "--src-tls-verify=false", "docker://"+w.Host()+"/alice.test/skopeo:one", "oci:"+back)
		requireSame(t, image.RawManifest, firstOf(t, back).RawManifest)

		require.Contains(t, skopeo.run("list-tags", "--tls-verify=false", "docker://"+w.Host()+"/alice.test/skopeo"), `"all"`)
		skopeo.run("delete", "--tls-verify=false", "--creds", creds, "docker://"+w.Host()+"/alice.test/skopeo:one")
		_, err := remote.Head(reference(t, w, "alice.test/skopeo:one"))
		require.ErrorContains(t, err, "404")
	})
}

func TestPodmanLogsInPushesAndPulls(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		podman := newClient(t, "podman", storage(t)...)
		target := w.Host() + "/alice.test/podman:v1"
		podman.run("login", "--tls-verify=false", "-u", servertest.Alice, "-p", w.Account(servertest.Alice).AppPassword, w.Host())
		pulled := podman.run("pull", "-q", "oci:"+ociLayout(t, randomImage(t)))
		id := lastLine(pulled)
		podman.run("push", "--tls-verify=false", id, target)
		podman.run("rmi", "-f", id)
		podman.run("logout", w.Host())
		require.Equal(t, id, lastLine(podman.run("pull", "-q", "--tls-verify=false", target)), "the image id is the digest of its config")
	})
}

func TestBuildahCommitsPushesAndPulls(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		buildah := newClient(t, "buildah", storage(t)...)
		creds := servertest.Bob + ":" + w.Account(servertest.Bob).AppPassword
		target := w.Host() + "/bob.test/team/built:v1"
		container := lastLine(buildah.run("from", "scratch"))
		buildah.run("config", "--label", "built=here", "--author", "bob", container)
		id := lastLine(buildah.run("commit", "-q", container))
		buildah.run("push", "--tls-verify=false", "--creds", creds, id, "docker://"+target)
		buildah.run("rm", container)
		buildah.run("rmi", "-f", id)
		require.Equal(t, id, lastLine(buildah.run("pull", "-q", "--tls-verify=false", target)))
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
