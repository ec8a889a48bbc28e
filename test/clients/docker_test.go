package clients

import (
	"os/exec"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// docker's own program talks to a registry without an engine when it logs in and when it works on manifest lists.
// Debian has it in one package with the engine, which a test must not start on somebody's machine: where it is not
// installed already, this test is skipped, in CI too.
func TestDockerLogsInAndMakesAManifestList(t *testing.T) {
	path, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("docker is not installed; its package brings an engine along")
	}
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		docker := start(t, "docker", path)
		at := w.Host() + "/alice.test/docker"
		index := platformIndex(t)
		manifests, err := index.IndexManifest()
		require.NoError(t, err)
		require.NoError(t, remote.WriteIndex(reference(t, w, "alice.test/docker:parts"), index, remote.WithAuth(w.Auth(servertest.Alice))))

		docker.login("login", "-u", servertest.Alice, "-p", password(w, servertest.Alice), w.Host())
		docker.pull("manifest", "inspect", "--insecure", at+":parts")
		create := []string{"manifest", "create", "--insecure", at + ":list"}
		for _, m := range manifests.Manifests {
			create = append(create, at+"@"+m.Digest.String())
		}
		docker.run(create...)
		docker.push("manifest", "push", "--insecure", at+":list")
		got, err := remote.Index(reference(t, w, "alice.test/docker:list"))
		require.NoError(t, err)
		pushed, err := got.IndexManifest()
		require.NoError(t, err)
		require.Len(t, pushed.Manifests, len(manifests.Manifests))
		docker.note("without an engine: manifest inspect, create, push")

		docker.run("logout", w.Host())
		out, err := docker.command("login", "-u", servertest.Alice, "-p", "aaaa-bbbb-cccc-dddd", w.Host()).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "app password", "the sentence of the registry reaches the user")
	})
}
