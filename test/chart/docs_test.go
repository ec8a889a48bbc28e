package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pages of this repository for users of the operator.
var pages = []string{
	"README.md", "config/README.md", "config/rbac/README.md", "charts/atcr-operator/README.md", "charts/atcr-hold/README.md",
	"api/v1alpha1/appview.md", "api/v1alpha1/holdlink.md", "api/v1alpha1/appview-fields.md", "api/v1alpha1/holdlink-fields.md",
	"hack/demo/story.md",
}

// Links within the repository lead to a file that is there, and to a heading that it has.
func TestLinksOfThePagesLeadSomewhere(t *testing.T) {
	for _, page := range pages {
		// Without code, where brackets mean something else.
		text := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(readPage(t, page), "code")
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(link[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			info, err := os.Stat(filepath.Join(root, target))
			require.NoError(t, err, "%s links to %s", page, link[1])
			if heading != "" && !info.IsDir() && strings.HasSuffix(target, ".md") {
				require.Contains(t, anchors(readPage(t, target)), heading, "%s links to %s", page, link[1])
			}
		}
	}
}

// What the installation page says about reasons is about reasons that there are.
func TestThePageOnTroubleNamesReasonsThatThereAre(t *testing.T) {
	constants := readPage(t, "api/v1alpha1/conditions.go")
	_, table, found := strings.Cut(readPage(t, "config/README.md"), "| reason | of |")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	rows := regexp.MustCompile("(?m)^\\| (`[^|]+) \\|").FindAllStringSubmatch(table, -1)
	require.Greater(t, len(rows), 10)
	for _, row := range rows {
		for _, reason := range strings.Split(row[1], ", ") {
			require.Contains(t, constants, `= "`+strings.Trim(reason, "`")+`"`)
		}
	}
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}

// anchors of a page's headings, as Markdown viewers make them.
func anchors(text string) []string {
	var out []string
	for _, h := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		plain := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		out = append(out, strings.ReplaceAll(plain, " ", "-"))
	}
	return out
}
