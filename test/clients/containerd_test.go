package clients

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/test/testenv"
)

// The resolver of containerd is also that of kubelets, of nerdctl and of BuildKit.
func TestContainerdPullsAndPushes(t *testing.T) {
	overEachHold(t, func(t *testing.T, w *servertest.World) {
		ctr := startContainerd(t)
		user := servertest.Alice + ":" + password(w, servertest.Alice)
		image := platformImage(t, runtime.GOARCH)
		require.NoError(t, remote.Write(reference(t, w, "alice.test/ctr:v1"), image, remote.WithAuth(w.Auth(servertest.Alice))))
		pushed, copied := w.Host()+"/alice.test/ctr:v1", w.Host()+"/alice.test/ctr-copy:v1"

		ctr.pull("images", "pull", "--plain-http", "--snapshotter", "native", pushed) // unpacks
		ctr.run("images", "tag", pushed, copied)
		ctr.push("images", "push", "--plain-http", "--user", user, copied)
		ctr.did(canLogin)
		requireServed(t, reference(t, w, "alice.test/ctr-copy:v1"), image)

		// As on a node: the address and plain http come from a hosts.toml.
		hosts := filepath.Join(ctr.home, "hosts", "registry.example")
		require.NoError(t, os.MkdirAll(hosts, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(hosts, "hosts.toml"),
			[]byte("server = \""+w.URL+"\"\n[host.\""+w.URL+"\"]\n  capabilities = [\"pull\", \"resolve\"]\n"), 0o600))
		ctr.pull("content", "fetch", "--hosts-dir", filepath.Dir(hosts), "--user", user, "registry.example/alice.test/ctr-copy:v1")
		digest, err := image.Digest()
		require.NoError(t, err)
		raw, err := image.RawManifest()
		require.NoError(t, err)
		require.Equal(t, string(raw), ctr.run("content", "get", digest.String()))
		ctr.note("unpack, hosts.toml")
	})
}

// startContainerd starts a containerd of the test's own and returns ctr for it.
func startContainerd(t *testing.T) *client {
	t.Helper()
	daemon := testenv.Program(t, "containerd", install)
	path := testenv.Program(t, "ctr", install)
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "containerd mounts what it unpacks; run the tests as root")
	}
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	config := filepath.Join(dir, "config.toml")
	require.NoError(t, os.WriteFile(config, []byte(`version = 2
root = "`+dir+`/root"
state = "`+dir+`/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "`+socket+`"
[ttrpc]
  address = "`+dir+`/t"
[plugins."io.containerd.internal.v1.opt"]
  path = "`+dir+`/opt"
`), 0o600))
	var log bytes.Buffer
	cmd := exec.Command(daemon, "--config", config, "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // ended by a signal
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("containerd:\n%s", log.String())
		}
	})
	c := start(t, "containerd (ctr)", path, "--address", socket)
	require.Eventually(t, func() bool { return c.command("version").Run() == nil }, 30*time.Second, 50*time.Millisecond)
	return c
}
