package chart

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// Each wrong value is refused, and the message names it.
func TestWrongValuesAreRefused(t *testing.T) {
	for _, c := range []struct{ set, says string }{
		{"replicaCount=2", "replicaCount"},
		{"image.name=x", "name"},
		{"image.repository=", "/image/repository"},
		{"image.tag=a b", "/image/tag"},
		{"image.digest=sha256:abc", "/image/digest"},
		{"image.pullPolicy=Sometimes", "/image/pullPolicy"},
		{"appView.image.pullPolicy=Always", "pullPolicy"},
		{"imagePullSecrets={pull}", "/imagePullSecrets/0"},
		{"fullnameOverride=Operator", "/fullnameOverride"},
		{"crds.enabled=true", "enabled"},
		{"crds.install=maybe", "/crds/install"},
		{"watchNamespaces=team-a", "/watchNamespaces"},
		{"watchNamespaces={Team_A}", "/watchNamespaces/0"},
		{"watchNamespaces={team-a,team-a}", "/watchNamespaces"},
		{"rbac.clusterAdmin=true", "clusterAdmin"},
		{"serviceAccount.annotations.a=1", "/serviceAccount/annotations/a"},
		{"replicas=-1", "/replicas"},
		{"replicas=two", "/replicas"},
		{"podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"},
		{"clusterDomain=", "/clusterDomain"},
		{"allowPrivateHolds={10.0.0.1}", "/allowPrivateHolds/0"},
		{"restrictPods=some", "/restrictPods"},
		{"log.level=loud", "/log/level"},
		{"log.format=xml", "/log/format"},
		{"metrics.port=80", "/metrics/port"},
		{"metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval"},
		{"metrics.rules.labels.a=1", "/metrics/rules/labels/a"},
		{"metrics.dashboard.folder=a", "folder"},
		{"healthPort=0", "/healthPort"},
		{"extraArgs={log-level=debug}", "/extraArgs/0"},
		{"extraEnv[0].value=x", "/extraEnv/0"},
		{"resources.request.cpu=1", "request"},
		{"tolerations[0].effect=Never", "/tolerations/0/effect"},
		{"affinity.pod=x", "pod"},
		{"topologySpreadConstraints[0].maxSkew=1", "/topologySpreadConstraints/0"},
		{"terminationGracePeriodSeconds=-1", "/terminationGracePeriodSeconds"},

		// What no schema can say.
		{"replicas=2,leaderElection.enabled=false", "leaderElection.enabled"},
		{"metrics.enabled=false,metrics.serviceMonitor.enabled=true", "metrics.enabled"},
		{"metrics.enabled=false,metrics.rules.enabled=true", "metrics.enabled"},
		{"metrics.port=8081", "metrics.port and healthPort must differ"},
		{"serviceAccount.create=false", "serviceAccount.name"},
	} {
		t.Run(c.set, func(t *testing.T) {
			out, err := template(t, "", "--set", c.set)
			require.Error(t, err, out)
			// The schema library's wording differs between versions of Helm: a path has dots or slashes.
			says := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(c.says), "/", "[./]"))
			require.Regexp(t, says, out)
			require.NotContains(t, out, "nil pointer")
		})
	}
}

func TestAnOldClusterIsRefused(t *testing.T) {
	out, err := template(t, "", "--kube-version", "1.30.9")
	require.Error(t, err)
	require.Contains(t, out, "1.31")
	for _, version := range []string{"1.31.0", "1.33.4-gke.100", "1.37.0"} {
		out, err := template(t, "", "--kube-version", version)
		require.NoError(t, err, out)
	}
}

// A chart that depends on this one passes `global` and must not be refused.
func TestTheChartWorksAsADependency(t *testing.T) {
	out, err := template(t, "", "--set", "global.imageRegistry=registry.example.com")
	require.NoError(t, err, out)
}

func TestTheSchemasAreStrictEverywhere(t *testing.T) {
	for _, folder := range []string{chart, holdChart} {
		strict(t, chartFiles(t, folder)["values.schema.json"])
	}
}

func strict(t *testing.T, text string) {
	t.Helper()
	var schema any
	require.NoError(t, json.Unmarshal([]byte(text), &schema))
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch n := node.(type) {
		case map[string]any:
			if _, ok := n["properties"].(map[string]any); ok && n["type"] == "object" {
				require.Equal(t, false, n["additionalProperties"], "%s accepts a mistyped value", path)
			}
			for k, v := range n {
				walk(path+"/"+k, v)
			}
		case []any:
			for _, v := range n {
				walk(path, v)
			}
		}
	}
	walk("", schema)
}

// Every value has a line in its chart's README with its default, and every line a value.
func TestTheReadmesListEveryValue(t *testing.T) {
	for _, folder := range []string{chart, holdChart} {
		t.Run(filepath.Base(folder), func(t *testing.T) { listed(t, chartFiles(t, folder)) })
	}
}

func listed(t *testing.T, files map[string]string) {
	t.Helper()
	var values map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(files["values.yaml"]), &values))
	leaves := map[string]string{}
	var walk func(path string, node any)
	walk = func(path string, node any) {
		if m, ok := node.(map[string]any); ok && len(m) > 0 {
			for k, v := range m {
				walk(strings.TrimPrefix(path+"."+k, "."), v)
			}
			return
		}
		text, ok := node.(string)
		if !ok {
			raw, err := json.Marshal(node)
			require.NoError(t, err)
			text = string(raw)
		}
		leaves[path] = text
	}
	walk("", values)

	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*)\\|").FindAllStringSubmatch(files["README.md"], -1) {
		listed = append(listed, row[1])
		if want := leaves[row[1]]; want != "" {
			require.Equal(t, "`"+want+"`", strings.TrimSpace(row[2]), "default of %s", row[1])
		} else {
			require.NotContains(t, row[2], "`", "%s is empty by default", row[1])
		}
	}
	var want []string
	for k := range leaves {
		want = append(want, k)
	}
	sort.Strings(want)
	slices.Sort(listed)
	require.Equal(t, want, listed)
}
