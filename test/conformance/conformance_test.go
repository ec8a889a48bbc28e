package conformance

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/test/testenv"
)

// What the program leaves out, and why. Nothing else may be skipped, and a line here that is not skipped is wrong.
var (
	notIn11 = "the program asks for it from the next version on; the run with dev has it"
	sparse  = "an index here names only manifests that are there, which the image-spec leaves to registries; off in the program too"

	skippedOf11 = map[string]string{
		"Blob upload cancel":                        notIn11,
		"sha256 blobs/post cancel/blob-post-cancel": notIn11,
		"sha512 blobs/post cancel/blob-post-cancel": notIn11,
		"Manifest put with tag params":              notIn11,
		"Tag Param":                                 notIn11,
		"Tag Param sha512":                          notIn11,
		"Sparse Manifests":                          sparse,
	}
	skippedOfDev = map[string]string{
		"Sparse Manifests": sparse,
	}
	// An S3 server answers a range that ends before it begins with the whole object, as RFC 9110 14.2 lets it.
	skippedOfS3 = map[string]string{
		"sha256 blobs/range requests/range 500-0": "an S3 server ignores it, which the program takes for no support",
		"sha512 blobs/range requests/range 500-0": "an S3 server ignores it, which the program takes for no support",
	}
)

// What fails where S3 itself answers, and why. Every case with such a name fails, with these words; no other does.
var headerOfS3 = excuse{suffix: "/blob-get", says: "registry did not return a Docker-Content-Digest header",
	reason: "dev demands the header of whoever answers; an S3 server has none to give, the redirect to it has it",
	features: []string{ // those whose blobs are read back
		"Artifact", "Artifact Index", "Artifact without Layers", "Artifacts with Subject", "Bad Digest Image",
		"Blob get", "Blobs sha256", "Blobs sha512", "Custom Fields", "Data Field", "Digest Algorithm sha512", "Image",
		"Image Uncompressed", "Image with Large Manifest", "Index", "Index with Subject", "Missing Subject",
		"Nested Index", "No Layers", "Non-distributable Layers", "Tag Param", "Tag Param sha512",
	}}

// required are the features that this registry promises, by the program's names.
var required = []string{
	"Tag listing", "Tag delete", "Tag delete atomic",
	"Blob post only", "Blob post put", "Blob chunked", "Blob streaming", "Blob mount", "Blob anonymous mount",
	"Blob get", "Blob get range", "Blob head", "Blob delete", "Blob delete atomic", "Blobs sha256", "Blobs sha512",
	"Manifest put by digest", "Manifest put by tag", "Manifest put with subject", "Manifest get by digest", "Manifest get by tag",
	"Manifest head by digest", "Manifest head by tag", "Manifest delete", "Manifest delete atomic",
	"Referrers", "Artifacts with Subject", "Missing Subject", "Index with Subject", "Digest Algorithm sha512",
	"Non-distributable Layers", "Image with Large Manifest", "Nested Index", "Custom Fields", "Bad Digest Image",
}

// requiredOfDev are those that version 1.1 does not have.
var requiredOfDev = []string{"Blob upload cancel", "Manifest put with tag params", "Tag Param", "Tag Param sha512"}

func TestTheOfficialProgramFindsNoFailure(t *testing.T) {
	program := testenv.Tool(t, "conformance")
	for _, c := range []struct {
		name, version string
		options       func(*testing.T) servertest.Options
		skipped       skips
		failing       excuse
		required      []string
	}{
		{"1.1", "1.1", onFilesystem, skips{skippedOf11}, excuse{}, required},
		{"dev", "dev", onFilesystem, skips{skippedOfDev}, excuse{}, slices.Concat(required, requiredOfDev)},
		{"1.1 over a hold on S3", "1.1", onS3, skips{skippedOf11, skippedOfS3}, excuse{}, required},
		{"dev over a hold on S3", "dev", onS3, skips{skippedOfDev, skippedOfS3}, headerOfS3, slices.Concat(required, requiredOfDev)},
		{"dev over a hold on S3 whose blobs the AppView streams", "dev", streamingFromS3, skips{skippedOfDev, skippedOfS3}, excuse{}, slices.Concat(required, requiredOfDev)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, program, servertest.Start(t, c.options(t)), c.version)
			t.Logf("OCI_VERSION=%s\n%s%s%s", c.version, r, c.skipped, c.failing)
			require.Empty(t, strings.Join(r.failed(c.failing), "\n"))
			require.Equal(t, c.skipped.names(), r.skipped(), "what was skipped is what may be")
			require.ElementsMatch(t, c.failing.features, r.featuresThat("FAIL"))
			for _, feature := range c.required {
				if !slices.Contains(c.failing.features, feature) {
					require.Equal(t, "Pass", r.features[feature], feature)
				}
			}
		})
	}
}

type skips []map[string]string // name to reason

func (s skips) names() []string {
	var all []string
	for _, m := range s {
		all = slices.AppendSeq(all, maps.Keys(m))
	}
	slices.Sort(all)
	return all
}

// String lists them with their reasons.
func (s skips) String() string {
	var out strings.Builder
	out.WriteString("skipped:\n")
	for _, name := range s.names() {
		for _, m := range s {
			if why, ok := m[name]; ok {
				fmt.Fprintf(&out, "  %s: %s\n", name, why)
			}
		}
	}
	return out.String()
}

// excuse is for cases that fail, and must: the zero value is for none.
type excuse struct {
	suffix, says string   // of their names, and the program's words
	reason       string   // why that is so
	features     []string // that the program marks as failed for it
}

func (e excuse) covers(c testCase) bool { return e.suffix != "" && strings.HasSuffix(c.Name, e.suffix) }

// String is empty when nothing may fail.
func (e excuse) String() string {
	if e.suffix == "" {
		return ""
	}
	return fmt.Sprintf("failing:\n  every */%s: %s\n", strings.TrimPrefix(e.suffix, "/"), e.reason)
}

// run runs the program as alice.test over two of her repositories.
func run(t *testing.T, program string, w *servertest.World, version string) report {
	t.Helper()
	dir := t.TempDir()
	results := filepath.Join(dir, "results")
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OCI_REGISTRY="+w.Host(), "OCI_TLS=disabled", "OCI_VERSION="+version,
		"OCI_REPO1=alice.test/conformance/one", "OCI_REPO2=alice.test/conformance/two",
		"OCI_USERNAME=alice.test", "OCI_PASSWORD="+w.Account(servertest.Alice).AppPassword, "OCI_RESULTS_DIR="+results)
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	err := cmd.Run()
	if _, missing := os.Stat(results); missing != nil {
		require.NoError(t, err, "%s", printed.String())
	}
	r := readReport(t, results, printed.String())
	if len(r.failed(excuse{})) == 0 {
		require.NoError(t, err, "%s", printed.String())
	}
	return r
}

func onFilesystem(*testing.T) servertest.Options { return servertest.Options{} }

// onS3 is a world whose blobs clients read from the S3 server itself. What it answers is not ours to write: the
// Docker-Content-Digest that the next version demands is in our redirect only.
func onS3(t *testing.T) servertest.Options {
	return servertest.Options{HoldEnv: s3test.Start(t).HoldEnv(t)}
}

// streamingFromS3 is a world whose hold clients cannot reach.
func streamingFromS3(t *testing.T) servertest.Options {
	o := onS3(t)
	o.Proxy = true
	return o
}
