// Package chart checks the Helm charts with the real helm: what they render is what config/ installs, a mistyped value is
// refused, and on a real API server a release installs, upgrades, and leaves the CRDs and the data behind.
package chart

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/controllers/manager"
	"atcr.io/operator/test/testenv"
)

const (
	root      = "../.."
	chart     = root + "/charts/atcr-operator"
	holdChart = root + "/charts/atcr-hold"
	release   = "atcr-operator"
	namespace = "atcr-system"
)

// valueFiles of the rendered variants; the empty one is the chart's defaults.
var valueFiles = []string{"", "everything.yaml", "namespaced.yaml", "tenant.yaml"}

// helm runs the pinned helm with a home of its own and returns what it prints. It never sees the caller's cluster.
func helm(t *testing.T, kubeconfig string, args ...string) (string, error) {
	t.Helper()
	chartFiles(t, chart)
	chartFiles(t, holdChart)
	build := exec.CommandContext(context.WithoutCancel(t.Context()), root+"/hack/tool.sh", "helm")
	build.Stderr = os.Stderr
	path, err := build.Output()
	if err != nil {
		testenv.Missing(t, "helm", "`hack/tool.sh helm` builds it from its Go module")
	}
	home := t.TempDir()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), strings.TrimSpace(string(path)), args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "KUBECONFIG=" + kubeconfig,
		"HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home,
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// template renders the chart with one of testdata's files and more arguments.
func template(t *testing.T, values string, args ...string) (string, error) {
	t.Helper()
	all := []string{"template", release, chart, "--namespace", namespace, "--kube-version", "1.31.0"}
	if values != "" {
		all = append(all, "--values", filepath.Join("testdata", values))
		_, err := os.ReadFile(filepath.Join("testdata", values))
		require.NoError(t, err)
	}
	return helm(t, os.DevNull, append(all, args...)...)
}

// objects of a rendered chart.
func objects(t *testing.T, values string, args ...string) []*unstructured.Unstructured {
	t.Helper()
	out, err := template(t, values, args...)
	require.NoError(t, err, out)
	return parse(t, out)
}

func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, doc := range strings.Split("\n"+text, "\n---\n") {
		o := &unstructured.Unstructured{}
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &o.Object), doc)
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
	require.NotEmpty(t, all)
	return all
}

// config reads the objects of a file in config/.
func config(t *testing.T, path string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "config", path))
	require.NoError(t, err)
	return parse(t, string(text))
}

// one is the only object of a kind, read strictly as T, or nil when there is none.
func one[T any](t *testing.T, all []*unstructured.Unstructured, kind, name string) *T {
	t.Helper()
	var found *T
	for _, o := range all {
		if o.GetKind() != kind || o.GetName() != name {
			continue
		}
		require.Nil(t, found, "two objects %s %s", kind, name)
		found = new(T)
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, found, true))
	}
	return found
}

func ofKind(all []*unstructured.Unstructured, kind string) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, o := range all {
		if o.GetKind() == kind {
			out = append(out, o)
		}
	}
	return out
}

// scheme of everything that the chart renders but for the ServiceMonitor.
func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := manager.Scheme()
	require.NoError(t, apiextensionsv1.AddToScheme(s))
	require.True(t, s.Recognizes(corev1.SchemeGroupVersion.WithKind("Service")))
	return s
}

// chartFiles reads every file of a chart, also so that go test knows that its result depends on them.
func chartFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, folder+"/")] = string(text)
		return err
	}))
	return files
}
