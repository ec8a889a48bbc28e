// Package monitoring checks what is watched: the list of the operator's metrics, and that alert rules and the dashboard
// name only metrics and labels that are documented, in PromQL that Prometheus' own parser takes.
package monitoring

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/appview/observe"
	"atcr.io/operator/controllers/controltest"
)

const root = "../.."

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(root + "/" + path)
	require.NoError(t, err)
	return b
}

func TestTheListOfTheOperatorsMetricsIsTrue(t *testing.T) {
	table, err := observe.Table(controltest.New(t).Operator().Metrics)
	require.NoError(t, err)
	const path = "controllers/metrics.md"
	text, _, found := strings.Cut(string(read(t, path)), "| metric |")
	require.True(t, found)
	if os.Getenv("UPDATE_METRICS") != "" {
		require.NoError(t, os.WriteFile(root+"/"+path, []byte(text+table), 0o644))
		return
	}
	require.Equal(t, text+table, string(read(t, path)), "%s is stale: run this test with UPDATE_METRICS=1", path)
}

// documented are the labels of each metric of the three pages.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, page := range []string{"controllers/metrics.md", "appview/server/metrics.md", "appview/hold/metrics.md"} {
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(read(t, page)), -1) {
			out[row[1]] = append([]string{}, strings.FieldsFunc(row[2], func(r rune) bool { return r == '`' || r == ',' || r == ' ' })...)
		}
	}
	require.Greater(t, len(out), 30, "the pages have tables")
	return out
}

// scraped are labels that Prometheus adds to what it scrapes.
var scraped = []string{"namespace", "service", "pod", "le"}

// check parses an expression, and looks for what it names. It returns the labels that its result can have.
func check(t *testing.T, known map[string][]string, expr string) []string {
	t.Helper()
	e, err := parser.ParseExpr(expr)
	require.NoError(t, err, expr)
	has := slices.Clone(scraped)
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		name := s.Name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && known[base] != nil {
				name = base
			}
		}
		require.Contains(t, known, name, "%s is not in the lists of metrics: %s", name, expr)
		for _, m := range s.LabelMatchers {
			if m.Name != labels.MetricName {
				require.Contains(t, append(slices.Clone(scraped), known[name]...), m.Name, "%s has no label %s: %s", name, m.Name, expr)
			}
		}
		has = append(has, known[name]...)
		return nil
	})
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			for _, l := range a.Grouping {
				require.Contains(t, has, l, "nothing in it has the label %s: %s", l, expr)
			}
		}
		return nil
	})
	return has
}

func TestAlertsNameMetricsThatExistAndSayWhatToDo(t *testing.T) {
	var file struct {
		Spec struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Alert, Expr, For    string
					Labels, Annotations map[string]string
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(read(t, "config/prometheus/rules.yaml"), &file))
	known, seen := documented(t), map[string]bool{}
	for _, g := range file.Spec.Groups {
		for _, r := range g.Rules {
			require.False(t, seen[r.Alert], "%s is there twice", r.Alert)
			seen[r.Alert] = true
			has := check(t, known, r.Expr)
			require.Contains(t, []string{"warning", "critical"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			require.NotEmpty(t, r.Annotations["description"], r.Alert)
			for _, text := range r.Annotations {
				for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
					require.Contains(t, has, l[1], "%s: %s", r.Alert, text)
				}
			}
		}
	}
	require.Greater(t, len(seen), 10)
}

func TestTheDashboardDrawsMetricsThatExist(t *testing.T) {
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(read(t, "config/prometheus/dashboard.json"), &board))
	known, ids, n := documented(t), map[int]bool{}, 0
	for _, p := range board.Panels {
		require.False(t, ids[p.ID], "two panels have id %d", p.ID)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for _, target := range p.Targets {
			n++
			check(t, known, strings.ReplaceAll(target.Expr, "$namespace", ".*"))
		}
	}
	require.Greater(t, n, 15)
}
