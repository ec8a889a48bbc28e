package referencepds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/test/testenv"
)

const how = "`hack/peers/install.sh` installs it; it needs npm, g++, make and python3"

// Verified is what the reference implementation says of a repository.
type Verified struct {
	Records int
	Paths   []string // collection/rkey
}

// VerifyRepo has the reference implementation check a repository's CAR: structure, hashes, and that the commit is of did
// and signed by key (did:key:...).
func VerifyRepo(t testing.TB, car []byte, did, key string) (Verified, error) {
	t.Helper()
	dir := install(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "node"), filepath.Join(dir, "verify-repo.mjs"), did, key)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(car), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return Verified{}, errors.New(strings.TrimSpace(stderr.String()))
	}
	var out Verified
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		return Verified{}, fmt.Errorf("read what the verifier says: %w", err)
	}
	return out, nil
}

// install returns the folder of the installed peers.
func install(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		testenv.Missing(t, "the reference PDS", how)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(checkout(t), "hack", "peers", "install.sh"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Logf("%s", stderr.Bytes())
		testenv.Missing(t, "the reference PDS", how)
	}
	return strings.TrimSpace(string(out))
}

// checkout is the root of the repository.
func checkout(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		require.NotEqual(t, parent, dir, "the test runs outside of the checkout")
		dir = parent
	}
}
