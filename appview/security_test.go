package appview_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// security.md says which test shows each promise: `TestA`, `TestB` (server), `FuzzC` (oci/spec). A row without a test says
// why there is none, after a dash.
func TestEveryPromiseHasATestThatExists(t *testing.T) {
	page, err := os.ReadFile("security.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`|\\(([a-z0-9./-]+)\\)")
	rows, tests, known := 0, 0, map[string][]string{}
	in := false
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			in = false
			continue
		case strings.HasSuffix(line, "| test |"):
			in = true
			continue
		case !in || strings.HasPrefix(line, "| ---"):
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "|"), "|")
		what, last := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[len(cells)-1])
		if reason, none := strings.CutPrefix(last, "— "); none {
			require.NotEmpty(t, reason, what)
			continue
		}
		var open []string
		found := 0
		for _, m := range named.FindAllStringSubmatch(last, -1) {
			if m[1] != "" {
				open = append(open, m[1])
				continue
			}
			if known[m[2]] == nil {
				known[m[2]] = testsOf(t, m[2])
			}
			for _, name := range open {
				require.Contains(t, known[m[2]], name, "%s: package %s has no such test", what, m[2])
				found++
			}
			open = nil
		}
		require.Empty(t, open, "%s: in which package?", what)
		require.Positive(t, found, "%s: by which test?", what)
		tests += found
	}
	require.Greater(t, rows, 40)
	require.Greater(t, tests, 90)
}

var function = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)

func testsOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// Layers are passed on as they are: what nobody unpacks cannot fill memory or disk, however small it was packed.
func TestNothingThatUsersPushIsUnpacked(t *testing.T) {
	files := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			require.NoError(t, err)
			require.NotRegexp(t, `^(compress|archive)/|klauspost/compress|/zstd|/xz|/estargz`, name, path)
		}
		return nil
	}))
	require.Greater(t, files, 200)
}
