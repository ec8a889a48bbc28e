package chart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
	"atcr.io/operator/test/testenv"
)

// releaseFiles runs hack/dist.sh without images, and returns the folder.
func releaseFiles(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"helm", "kustomize"} {
		if err := exec.CommandContext(t.Context(), root+"/hack/tool.sh", tool).Run(); err != nil {
			testenv.Missing(t, tool, "`hack/tool.sh "+tool+"` builds it from its Go module")
		}
	}
	_, err := os.ReadFile(root + "/hack/dist.sh")
	require.NoError(t, err)
	for _, file := range []string{"default/kustomization.yaml", "default/images.yaml", "registry/registry.yaml", "rbac/role.yaml", "manager/manager.yaml"} {
		config(t, file)
	}
	dist := t.TempDir()
	cmd := exec.CommandContext(t.Context(), root+"/hack/dist.sh")
	cmd.Env = append(os.Environ(), "IMAGES=0", "VERSION=v1.2.3", "REGISTRY=registry.example.com/atcr", "DIST="+dist)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return dist
}

// What `make dist` writes besides images is what an API server takes, with the images that were asked for.
func TestTheFilesOfARelease(t *testing.T) {
	c := newCluster(t)
	dist := releaseFiles(t)
	read := func(name string) []*unstructured.Unstructured {
		text, err := os.ReadFile(filepath.Join(dist, name))
		require.NoError(t, err)
		return parse(t, string(text))
	}
	install := read("install.yaml")
	operator := one[appsv1.Deployment](t, install, "Deployment", "atcr-operator").Spec.Template.Spec.Containers[0]
	require.Equal(t, "registry.example.com/atcr/atcr-operator:v1.2.3", operator.Image)
	require.Equal(t, "registry.example.com/atcr/atcr-appview:v1.2.3", operator.Env[0].Value)
	require.Len(t, ofKind(install, "CustomResourceDefinition"), 2)
	registry := read("registry.yaml")
	hold := one[appsv1.Deployment](t, registry, "Deployment", "hold")
	require.Equal(t, "registry.example.com/atcr/atcr-hold:v1.2.3", hold.Spec.Template.Spec.Containers[0].Image)
	require.NotNil(t, one[v1alpha1.AppView](t, registry, "AppView", "registry"))
	require.NotNil(t, one[v1alpha1.HoldLink](t, registry, "HoldLink", "hold"))
	text, err := os.ReadFile(filepath.Join(dist, "registry.yaml"))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(text), "# HERE: "), "the comments say what to change")
	c.takes(t, install)
	c.takes(t, registry)

	for chart, image := range map[string]string{
		"atcr-operator-0.1.0.tgz": "registry.example.com/atcr/atcr-operator:v1.2.3", "atcr-hold-0.1.0.tgz": "registry.example.com/atcr/atcr-hold:v1.2.3",
	} {
		args := []string{"template", "x", filepath.Join(dist, chart), "--kube-version", "1.31.0"}
		if chart == "atcr-hold-0.1.0.tgz" {
			args = append(args, "--values", "testdata/hold.yaml")
		}
		out, err := helm(t, os.DevNull, args...)
		require.NoError(t, err, out)
		all := parse(t, out)
		d := one[appsv1.Deployment](t, all, "Deployment", ofKind(all, "Deployment")[0].GetName())
		require.Equal(t, image, d.Spec.Template.Spec.Containers[0].Image)
	}
}

func TestTheFilesOfAReleaseAreTheSameEveryTime(t *testing.T) {
	first, second := releaseFiles(t), releaseFiles(t)
	entries, err := os.ReadDir(first)
	require.NoError(t, err)
	require.Len(t, entries, 4)
	for _, entry := range entries {
		one, err := os.ReadFile(filepath.Join(first, entry.Name()))
		require.NoError(t, err)
		two, err := os.ReadFile(filepath.Join(second, entry.Name()))
		require.NoError(t, err)
		require.True(t, bytes.Equal(one, two), entry.Name())
	}
}

// On a cluster that knows nothing of us yet, kubectl applies both files, and the operator brings the AppView to Ready. The
// hold's name is in no DNS here, which does not keep the registry from being there.
func TestTheFilesOfAReleaseMakeARegistry(t *testing.T) {
	controltest.Config(t) // or skip
	dist := releaseFiles(t)
	env := &envtest.Environment{}
	cfg, err := env.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, env.Stop()) })
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, env.KubeConfig, 0o600))
	kubectl := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"), args...)
		cmd.Env = []string{"KUBECONFIG=" + kubeconfig, "HOME=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
	kubectl("apply", "--server-side", "-f", filepath.Join(dist, "install.yaml"))
	kubectl("wait", "--for=condition=Established", "crd", "--all")
	kubectl("apply", "-f", filepath.Join(dist, "registry.yaml"))

	client, err := client.NewWithWatch(cfg, client.Options{Scheme: manager.Scheme()})
	require.NoError(t, err)
	e := &controltest.Env{TB: t, Namespace: "atcr", Client: client, Config: cfg}
	e.Kubelet()
	e.Operator(controltest.NoLoopback())
	av := e.AppView("registry", "Ready=True", "Stalled=", "DefaultHoldResolved=True/Resolved")
	require.Equal(t, "did:web:hold.atcr.svc.cluster.local", av.Status.DefaultHold.DID)
	require.Equal(t, "https://registry.example.com", av.Status.URL)

	// What the terminal says is what the pages say: every field, with its text.
	tree := kubectl("explain", "appview.spec", "--recursive")
	for _, field := range []string{"baseURL", "postgresql", "signing", "hostnames", "allowedNamespaces"} {
		require.Contains(t, tree, field)
	}
	require.Contains(t, kubectl("explain", "appview.spec.tokens.expiration"), "60s to 1h")
	require.Contains(t, kubectl("explain", "holdlink.spec.healthCheck"), "Default: 1m")
	require.NotContains(t, kubectl("explain", "appview.spec"), "<empty>")
}

// takes has the API server check objects strictly. Namespaces are made for it, the rest is not.
func (c *cluster) takes(t *testing.T, all []*unstructured.Unstructured) {
	t.Helper()
	for _, o := range all {
		if o.GetKind() == "Namespace" {
			err := c.client.Create(t.Context(), o.DeepCopy(), client.FieldValidation("Strict"))
			require.True(t, err == nil || apierrors.IsAlreadyExists(err), "%v", err)
			continue
		}
		err := c.client.Create(t.Context(), o.DeepCopy(), client.DryRunAll, client.FieldValidation("Strict"))
		require.True(t, err == nil || apierrors.IsAlreadyExists(err), "%s %s: %v", o.GetKind(), o.GetName(), err)
	}
}
