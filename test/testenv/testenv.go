// Package testenv decides whether a test may be skipped: never in CI for what the machine can run.
package testenv

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "..", "..", "hack", "tool.sh")
	cmd := exec.CommandContext(t.Context(), script, name)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		Missing(t, name, "`hack/tool.sh "+name+"` builds it from its Go module; here it said: "+strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out))
}
