// Package conformance runs the OCI distribution-spec conformance program over the full path: token authentication with
// an app password, records on the development PDS, blobs in the hold.
package conformance

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// allowed are the checks that may be disabled: by the program itself for a version, with the reason.
var allowed = map[string]map[string]string{
	"1.1": {
		"Blob upload cancel":           "not in 1.1; runs with dev",
		"Manifest put with tag params": "not in 1.1; runs with dev",
		"Sparse Manifests":             "off by default: an index here names only manifests that are there",
		"Tag Param":                    "not in 1.1; runs with dev",
		"Tag Param sha512":             "not in 1.1; runs with dev",
	},
	"dev": {
		"Sparse Manifests": "off by default: an index here names only manifests that are there",
	},
}

func TestTheOfficialProgramFindsNoFailure(t *testing.T) {
	program := tool(t)
	for _, c := range []struct {
		name, version string
		options       servertest.Options
	}{
		{"1.1", "1.1", servertest.Options{}},
		{"dev", "dev", servertest.Options{}},
		{"1.1 through an AppView that streams the blobs", "1.1", proxied(t)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := servertest.Start(t, c.options)
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "OCI_REGISTRY="+w.Host(), "OCI_TLS=disabled", "OCI_VERSION="+c.version,
				"OCI_REPO1=alice.test/conformance/one", "OCI_REPO2=alice.test/conformance/two",
				"OCI_USERNAME=alice.test", "OCI_PASSWORD="+w.Account(servertest.Alice).AppPassword,
				"OCI_RESULTS_DIR="+filepath.Join(cmd.Dir, "results"))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			table := out.String()
			if i := strings.Index(table, "OCI Conformance Result:"); i > 0 {
				t.Log("\n" + table[i:])
			}
			require.NoError(t, err, "%s", failures(table))
			require.Regexp(t, `FAIL\.+:\s+0\n`, table)
			require.Regexp(t, `Error\.+:\s+0\n`, table)
			for _, name := range notPassed(table) {
				require.Contains(t, allowed[c.version], name, "neither passed nor on the list of what may be disabled")
			}
		})
	}
}

// proxied is a world whose hold clients cannot reach: the AppView streams.
func proxied(t *testing.T) servertest.Options {
	t.Helper()
	return servertest.Options{Proxy: true}
}

// tool builds the program once.
func tool(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../hack/tool.sh", "conformance")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "hack/tool.sh conformance")
	return strings.TrimSpace(string(out))
}

var resultLine = regexp.MustCompile(`(?m)^  ([A-Za-z0-9 +-]+?)\.{2,}:\s+(\w+)$`)

// notPassed are the rows of the two result tables that do not say Pass.
func notPassed(table string) []string {
	i := strings.Index(table, "API conformance:")
	if i < 0 {
		return []string{"no result table"}
	}
	var out []string
	for _, m := range resultLine.FindAllStringSubmatch(table[i:], -1) {
		if m[2] != "Pass" {
			out = append(out, m[1])
		}
	}
	return out
}

// failures are the lines about what failed.
func failures(output string) string {
	var out []string
	for line := range strings.SplitSeq(output, "\n") {
		if strings.Contains(line, "FAIL") || strings.Contains(line, "Error") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
