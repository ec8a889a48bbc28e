package conformance

import (
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"
)

// report is what the program found out.
type report struct {
	cases    []testCase
	features map[string]string // name to Pass, Disabled, Skip, FAIL or Error
}

type testCase struct {
	Name   string `xml:"name,attr"` // "OCI Conformance Test/<group>/..."
	Status string `xml:"status,attr"`
	Output string `xml:"system-out"`
}

const root = "OCI Conformance Test/"

// readReport reads junit.xml, which has every case, and the tables of what the program printed, which have the features
// of the specification.
func readReport(t *testing.T, dir, printed string) report {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	require.NoError(t, err)
	var file struct {
		Cases []testCase `xml:"testsuite>testcase"`
	}
	require.NoError(t, xml.Unmarshal(raw, &file))
	r := report{features: map[string]string{}}
	for _, c := range file.Cases {
		c.Name = strings.TrimPrefix(c.Name, root)
		r.cases = append(r.cases, c)
	}
	_, tables, found := strings.Cut(printed, "API conformance:")
	require.True(t, found, "the program printed no tables:\n%s", printed)
	for _, m := range featureLine.FindAllStringSubmatch(tables, -1) {
		r.features[m[1]] = m[2]
	}
	return r
}

var featureLine = regexp.MustCompile(`(?m)^  ([A-Za-z0-9 +-]+?)\.{2,}:\s+(\w+)$`)

// skipped are the features that were not looked at, and the cases that were left out.
func (r report) skipped() []string {
	out := []string{}
	for name, status := range r.features {
		if status != "Pass" && status != "FAIL" {
			out = append(out, name)
		}
	}
	for _, c := range r.cases {
		if c.Status == "skipped" {
			out = append(out, c.Name)
		}
	}
	slices.Sort(out)
	return out
}

// featuresThat are the features with a status, sorted.
func (r report) featuresThat(status string) []string {
	out := []string{}
	for name, s := range r.features {
		if s == status {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// failed are the cases that did not end as they should, with what the program says of them: those that failed, unless e
// excuses them, and those that e excuses but passed.
func (r report) failed(e excuse) []string {
	var out []string
	for _, c := range r.cases {
		ok := c.Status == "passed" || c.Status == "skipped"
		if e.covers(c) {
			ok = c.Status == "failure" && strings.TrimSpace(c.Output) == e.says
		}
		if !ok {
			out = append(out, c.Name+" ("+c.Status+"): "+strings.TrimSpace(c.Output))
		}
	}
	return out
}

// String is a table of the groups, how many cases passed, failed and were skipped, and one of the program's features.
func (r report) String() string {
	type count struct{ passed, failed, skipped int }
	groups := map[string]*count{}
	total := &count{}
	for _, c := range r.cases {
		name, _, _ := strings.Cut(c.Name, "/")
		if groups[name] == nil {
			groups[name] = &count{}
		}
		for _, n := range []*count{groups[name], total} {
			switch c.Status {
			case "passed":
				n.passed++
			case "skipped":
				n.skipped++
			default:
				n.failed++
			}
		}
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, c *count) { fmt.Fprintf(w, "%d\t%d\t%d\t  %s\n", c.passed, c.failed, c.skipped, name) }
	fmt.Fprintln(w, "passed\tfailed\tskipped\t  group")
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		row(name, groups[name])
	}
	row("total", total)
	_ = w.Flush() // into memory
	byStatus := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(r.features)) {
		byStatus[r.features[name]] = append(byStatus[r.features[name]], name)
	}
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		fmt.Fprintf(&out, "features, %s: %s\n", status, strings.Join(byStatus[status], ", "))
	}
	return out.String()
}
