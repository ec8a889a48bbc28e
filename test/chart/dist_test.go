package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/test/testenv"
)

// What `make dist` writes besides images is what an API server takes, with the images that were asked for.
func TestTheFilesOfARelease(t *testing.T) {
	c := newCluster(t)
	for _, tool := range []string{"helm", "kustomize"} {
		if err := exec.CommandContext(t.Context(), root+"/hack/tool.sh", tool).Run(); err != nil {
			testenv.Missing(t, tool, "`hack/tool.sh "+tool+"` builds it from its Go module")
		}
	}
	_, err := os.ReadFile(root + "/hack/dist.sh")
	require.NoError(t, err)
	config(t, "default/kustomization.yaml")
	config(t, "registry/registry.yaml")
	dist := t.TempDir()
	cmd := exec.CommandContext(t.Context(), root+"/hack/dist.sh")
	cmd.Env = append(os.Environ(), "IMAGES=0", "VERSION=v1.2.3", "REGISTRY=registry.example.com/atcr", "DIST="+dist)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))

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
