// Package testenv decides whether a test may be skipped: never in CI for what the machine can run.
package testenv

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Strict reports whether a missing part is a failure instead of a skip.
func Strict() bool { return os.Getenv("CI") == "true" }

// Missing ends the test because a part it needs is not there: it fails in CI and skips elsewhere. how says how to
// get the part.
func Missing(t testing.TB, part, how string) {
	t.Helper()
	if Strict() {
		t.Fatalf("%s is missing, and CI does not skip: %s", part, how)
	}
	t.Skipf("%s is missing: %s", part, how)
}

// Program returns the path of a program that the test drives.
func Program(t testing.TB, name, how string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name, how)
	}
	return path
}

// Env returns a variable that a script sets for the test.
func Env(t testing.TB, name, how string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		Missing(t, "$"+name, how)
	}
	return v
}

// Tool returns the path of a program that hack/tools pins; the first time, hack/tool.sh builds it.
func Tool(t testing.TB, name string) string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "hack", "tool.sh"), name)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		Missing(t, name, "`hack/tool.sh "+name+"` builds it from its Go module; here it said: "+strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out))
}

// Port is a free one of an address, below those that Linux gives to whoever asks for any and to outgoing connections:
// nobody takes it before the server that is to have it has started, or while that is down.
func Port(address string) (int, error) {
	for range 200 {
		n := 12_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(n)))
		if err == nil {
			return n, l.Close()
		}
	}
	return 0, errors.New("no free port of " + address)
}

// Root of the checkout: the next folder with a go.mod, from the working directory up. A test's is its package.
func Root() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod here or above")
		}
	}
	return "", err
}
