package clients

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/test/testenv"
)

const install = "install it with your package manager; hack/test/deps.sh does on Debian"

// client is a program with folders of its own, so that it neither reads nor leaves anything on the machine.
type client struct {
	line
	t    *testing.T
	path string
	home string
	args []string // before every command's own
}

// newClient is a client from the machine's packages.
func newClient(t *testing.T, program string, args ...string) *client {
	t.Helper()
	return start(t, program, testenv.Program(t, program, install), args...)
}

// newTool is a client that hack/tools pins.
func newTool(t *testing.T, name string, args ...string) *client {
	t.Helper()
	return start(t, name, testenv.Tool(t, name), args...)
}

func start(t *testing.T, name, path string, args ...string) *client {
	t.Helper()
	c := &client{t: t, path: path, home: t.TempDir(), args: args}
	require.NoError(t, os.WriteFile(filepath.Join(c.home, "auth.json"), []byte("{}"), 0o600))
	c.line = enter(t, name, c.version())
	return c
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+\S*`)

// version as the binary's build says it, else as the program does.
func (c *client) version() string {
	if info, err := buildinfo.ReadFile(c.path); err == nil && versionNumber.MatchString(info.Main.Version) {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	out, err := c.command("--version").Output()
	require.NoError(c.t, err, "%s --version", c.path)
	return strings.TrimSuffix(versionNumber.FindString(string(out)), ",")
}

// run runs one command and returns what it printed.
func (c *client) run(args ...string) string {
	c.t.Helper()
	out, err := c.command(args...).CombinedOutput()
	require.NoError(c.t, err, "%s %v\n%s", c.path, args, out)
	return string(out)
}

// login, push and pull are commands that the table of clients speaks of.
func (c *client) login(args ...string) string { c.t.Helper(); return c.step(canLogin, args) }
func (c *client) push(args ...string) string  { c.t.Helper(); return c.step(canPush, args) }
func (c *client) pull(args ...string) string  { c.t.Helper(); return c.step(canPull, args) }

func (c *client) step(what column, args []string) string {
	c.t.Helper()
	out := c.run(args...)
	c.did(what)
	return out
}

func (c *client) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.t.Context(), c.path, append(append([]string{}, c.args...), args...)...)
	cmd.Dir = c.home
	cmd.Env = append(os.Environ(), "HOME="+c.home, "XDG_RUNTIME_DIR="+c.home, "TMPDIR="+c.home,
		"XDG_CONFIG_HOME="+c.home, "XDG_CACHE_HOME="+c.home, "XDG_DATA_HOME="+c.home,
		"REGISTRY_AUTH_FILE="+filepath.Join(c.home, "auth.json"), "DOCKER_CONFIG="+filepath.Join(c.home, "docker"),
		"DOCKER_HOST=unix://"+filepath.Join(c.home, "no-engine.sock"))
	return cmd
}

// write makes a file in the client's home, which is where it runs.
func (c *client) write(name, content string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(filepath.Join(c.home, name), []byte(content), 0o600))
}

func (c *client) read(name string) string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.home, name))
	require.NoError(c.t, err)
	return string(b)
}

// password is the app password of an account.
func password(w *servertest.World, handle string) string { return w.Account(handle).AppPassword }
