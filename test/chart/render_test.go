package chart

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"atcr.io/operator/controllers/manager"
)

func TestLintFindsNothing(t *testing.T) {
	for _, values := range valueFiles {
		args := []string{"lint", "--strict", chart}
		if values != "" {
			args = append(args, "--values", filepath.Join("testdata", values))
		}
		out, err := helm(t, os.DevNull, args...)
		require.NoError(t, err, out)
		require.Contains(t, out, "0 chart(s) failed")
	}
	for _, values := range holdValueFiles {
		out, err := helm(t, os.DevNull, "lint", "--strict", holdChart, "--values", filepath.Join("testdata", values))
		require.NoError(t, err, out)
		require.Contains(t, out, "0 chart(s) failed")
	}
}

// A GitOps controller renders again and again: a random value would roll the operator out each time.
func TestTwoRendersAreEqual(t *testing.T) {
	for _, values := range valueFiles {
		first, err := template(t, values)
		require.NoError(t, err, first)
		second, err := template(t, values)
		require.NoError(t, err)
		require.Equal(t, first, second)
	}
	for _, values := range holdValueFiles {
		first, err := templateHold(t, values)
		require.NoError(t, err, first)
		second, err := templateHold(t, values)
		require.NoError(t, err)
		require.Equal(t, first, second)
	}
	for _, folder := range []string{chart, holdChart} {
		for name, text := range chartFiles(t, folder) {
			if strings.HasPrefix(name, "templates/") {
				require.NotRegexp(t, `\b(rand[A-Z]\w+|uuidv4|genPrivateKey|gen\w*Cert\w*|htpasswd|bcrypt|lookup|now|date)\s`,
					actions(text), "%s of %s", name, folder)
			}
		}
	}
}

// actions of a template, without the text around them and without comments.
func actions(text string) string {
	text = regexp.MustCompile(`(?s){{-? */\*.*?\*/ *-?}}`).ReplaceAllString(text, "")
	return strings.Join(regexp.MustCompile(`(?s){{.*?}}`).FindAllString(text, -1), "\n")
}

func TestEveryObjectIsOneThatKubernetesKnows(t *testing.T) {
	s := scheme(t)
	for _, values := range valueFiles {
		for _, o := range objects(t, values) {
			if o.GetKind() == "ServiceMonitor" || o.GetKind() == "PrometheusRule" {
				continue
			}
			typed, err := s.New(o.GroupVersionKind())
			require.NoError(t, err)
			err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true)
			require.NoError(t, err, "%s %s", o.GetKind(), o.GetName())
		}
	}
}

func TestTheCRDsAreThoseOfConfig(t *testing.T) {
	rendered := ofKind(objects(t, ""), "CustomResourceDefinition")
	files, err := filepath.Glob(root + "/config/crd/bases/*.yaml")
	require.NoError(t, err)
	require.Len(t, rendered, len(files))
	for _, file := range files {
		want := config(t, filepath.Join("crd/bases", filepath.Base(file)))[0]
		i := slices.IndexFunc(rendered, func(o *unstructured.Unstructured) bool { return o.GetName() == want.GetName() })
		require.NotEqual(t, -1, i, want.GetName())
		got := rendered[i].DeepCopy()

		annotations := got.GetAnnotations()
		require.Equal(t, "keep", annotations["helm.sh/resource-policy"], "uninstalling must not delete every registry")
		delete(annotations, "helm.sh/resource-policy")
		got.SetAnnotations(annotations)
		got.SetLabels(nil)
		require.Equal(t, want.Object, got.Object)
	}
	require.Empty(t, ofKind(objects(t, "", "--set", "crds.install=false"), "CustomResourceDefinition"))
	for _, crd := range ofKind(objects(t, "", "--set", "crds.keep=false"), "CustomResourceDefinition") {
		require.NotContains(t, crd.GetAnnotations(), "helm.sh/resource-policy")
	}
}

func TestTheRightsAreThoseOfConfig(t *testing.T) {
	got := objects(t, "")
	for _, c := range []struct{ file, kind, name, chartName string }{
		{"rbac/role.yaml", "ClusterRole", "atcr-operator", "atcr-operator"},
		{"rbac/leader_election.yaml", "Role", "atcr-operator-leader-election", "atcr-operator-leader-election"},
		{"rbac/user_roles.yaml", "ClusterRole", "atcr-edit", "atcr-operator-edit"},
		{"rbac/user_roles.yaml", "ClusterRole", "atcr-view", "atcr-operator-view"},
	} {
		want, have := one[rbacv1.ClusterRole](t, config(t, c.file), c.kind, c.name), one[rbacv1.ClusterRole](t, got, c.kind, c.chartName)
		require.NotNil(t, want)
		require.NotNil(t, have, c.chartName)
		require.Equal(t, want.Rules, have.Rules)
		for label, value := range want.Labels {
			require.Equal(t, value, have.Labels[label], "aggregation of %s", c.chartName)
		}
	}
	for file, name := range map[string]string{
		"rbac/role_binding.yaml": "atcr-operator", "rbac/leader_election.yaml": "atcr-operator-leader-election",
	} {
		kind := "RoleBinding"
		if name == "atcr-operator" {
			kind = "ClusterRoleBinding"
		}
		want, have := one[rbacv1.RoleBinding](t, config(t, file), kind, name), one[rbacv1.RoleBinding](t, got, kind, name)
		require.NotNil(t, have, name)
		require.Equal(t, want.RoleRef, have.RoleRef)
		require.Equal(t, want.Subjects, have.Subjects)
		require.Equal(t, want.Namespace, have.Namespace)
	}
	// Nothing grants more than config/ does.
	require.Len(t, ofKind(got, "ClusterRole"), 3)
	require.Len(t, ofKind(got, "ClusterRoleBinding"), 1)
	require.Len(t, ofKind(got, "Role"), 1)
	require.Len(t, ofKind(got, "RoleBinding"), 1)

	require.Contains(t, got[indexOf(t, got, "Role", "atcr-operator-leader-election")].Object["rules"].([]any)[1].(map[string]any)["resourceNames"],
		manager.LeaderElectionID)
	require.Empty(t, rights(objects(t, "", "--set", "rbac.create=false,rbac.userRoles=false")))
}

func indexOf(t *testing.T, all []*unstructured.Unstructured, kind, name string) int {
	t.Helper()
	i := slices.IndexFunc(all, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind && o.GetName() == name })
	require.NotEqual(t, -1, i, "%s %s", kind, name)
	return i
}

// rights are the objects of rbac.authorization.k8s.io.
func rights(all []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.DeleteFunc(slices.Clone(all), func(o *unstructured.Unstructured) bool {
		return o.GroupVersionKind().Group != rbacv1.GroupName
	})
}

func TestTheDeploymentIsThatOfConfig(t *testing.T) {
	want := one[appsv1.Deployment](t, config(t, "manager/manager.yaml"), "Deployment", "atcr-operator")
	all := objects(t, "", "--set", "image.tag=dev,appView.image.tag=dev")
	got := one[appsv1.Deployment](t, all, "Deployment", "atcr-operator")
	require.NotNil(t, got)

	want.Spec.Template.Spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent // the default, which the chart writes
	require.Equal(t, want.Spec.Template.Spec, got.Spec.Template.Spec)
	require.Equal(t, want.Spec.Template.Annotations, got.Spec.Template.Annotations)
	require.Equal(t, want.Spec.Replicas, got.Spec.Replicas)
	require.Equal(t, want.Spec.RevisionHistoryLimit, got.Spec.RevisionHistoryLimit)
	for label, value := range want.Spec.Template.Labels {
		require.Equal(t, value, got.Spec.Template.Labels[label])
	}
	require.Equal(t, want.Namespace, got.Namespace)
	selects(t, got.Spec.Selector.MatchLabels, got)

	account := one[corev1.ServiceAccount](t, all, "ServiceAccount", "atcr-operator")
	require.NotNil(t, account)
	require.Nil(t, one[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget", "atcr-operator"), "one replica must not block a drain")
	require.Empty(t, ofKind(all, "ServiceMonitor"))
}

func selects(t *testing.T, selector map[string]string, d *appsv1.Deployment) {
	t.Helper()
	require.NotEmpty(t, selector)
	labels := maps.Clone(d.Spec.Template.Labels)
	maps.DeleteFunc(labels, func(k, v string) bool { return selector[k] != v })
	require.Equal(t, selector, labels, "the selector finds the operator's pods")
}

func TestImagesWithoutATagAreThoseOfTheChart(t *testing.T) {
	d := one[appsv1.Deployment](t, objects(t, ""), "Deployment", "atcr-operator")
	c := d.Spec.Template.Spec.Containers[0]
	require.Equal(t, "atcr.local/atcr-operator:0.1.0", c.Image)
	require.Equal(t, []corev1.EnvVar{{Name: "ATCR_APPVIEW_IMAGE", Value: "atcr.local/atcr-appview:0.1.0"}}, c.Env)
}

func TestEveryValueReachesTheObjects(t *testing.T) {
	all := objects(t, "everything.yaml")
	d := one[appsv1.Deployment](t, all, "Deployment", "registry-operator")
	require.NotNil(t, d)
	pod, c := d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0]

	require.Equal(t, "registry.example.com:5000/atcr/operator@sha256:"+strings.Repeat("a", 64), c.Image, "a digest wins")
	require.Equal(t, corev1.PullAlways, c.ImagePullPolicy)
	require.Equal(t, []string{
		"--leader-elect", "--cluster-domain=cluster.example", "--allow-private-holds=10.0.0.0/8,fd00::/8", "--restrict-pods",
		"--metrics-bind-address=:9090", "--health-probe-bind-address=:9091", "--log-level=debug", "--log-format=text",
		"--leader-election-namespace=atcr-system",
	}, c.Args)
	require.Len(t, c.Env, 3)
	require.Equal(t, "registry.example.com/atcr-appview:v9", c.Env[0].Value)
	require.Equal(t, []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9090}, {Name: "health", ContainerPort: 9091}}, c.Ports)
	require.Equal(t, "2Gi", c.Resources.Limits.Memory().String())
	require.EqualValues(t, 3, *d.Spec.Replicas)
	require.EqualValues(t, 60, *pod.TerminationGracePeriodSeconds)
	require.Equal(t, "robot", pod.ServiceAccountName)
	require.Equal(t, []corev1.LocalObjectReference{{Name: "pull"}}, pod.ImagePullSecrets)
	require.Equal(t, "system-cluster-critical", pod.PriorityClassName)
	require.Equal(t, map[string]string{"kubernetes.io/os": "linux"}, pod.NodeSelector)
	require.Len(t, pod.Tolerations, 1)
	require.Len(t, pod.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	require.Len(t, pod.TopologySpreadConstraints, 2)
	selects(t, pod.TopologySpreadConstraints[0].LabelSelector.MatchLabels, d)
	require.Equal(t, map[string]string{"own": "selector"}, pod.TopologySpreadConstraints[1].LabelSelector.MatchLabels)
	require.Equal(t, "registry", d.Spec.Template.Labels["example.com/team"])
	require.Equal(t, "b", d.Spec.Template.Annotations["example.com/a"])

	require.Equal(t, "operator", one[corev1.ServiceAccount](t, all, "ServiceAccount", "robot").Annotations["example.com/role"])
	pdb := one[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget", "registry-operator")
	require.Equal(t, "50%", pdb.Spec.MaxUnavailable.String())
	selects(t, pdb.Spec.Selector.MatchLabels, d)

	service := one[corev1.Service](t, all, "Service", "registry-operator-metrics")
	require.EqualValues(t, 9090, service.Spec.Ports[0].Port)
	require.Equal(t, "true", service.Annotations["example.com/scrape"])
	selects(t, service.Spec.Selector, d)
	monitor := all[indexOf(t, all, "ServiceMonitor", "registry-operator")]
	require.Equal(t, "prometheus", monitor.GetLabels()["release"])
	selector, _, err := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	require.NoError(t, err)
	for k, v := range selector {
		require.Equal(t, v, service.Labels[k], "the ServiceMonitor selects the Service")
	}
	endpoints, _, err := unstructured.NestedSlice(monitor.Object, "spec", "endpoints")
	require.NoError(t, err)
	require.Equal(t, []any{map[string]any{"port": "metrics", "honorLabels": true, "interval": "1m", "scrapeTimeout": "5s"}}, endpoints)
}

// What Prometheus and Grafana are given is what config/ gives them, with its own templates as they are.
func TestRulesAndDashboardAreThoseOfConfig(t *testing.T) {
	require.Empty(t, ofKind(objects(t, ""), "PrometheusRule"))
	require.Empty(t, ofKind(objects(t, ""), "ConfigMap"))
	all := objects(t, "everything.yaml")
	rules := all[indexOf(t, all, "PrometheusRule", "registry-operator")]
	require.Equal(t, config(t, "prometheus/rules.yaml")[0].Object["spec"], rules.Object["spec"])
	require.Equal(t, "prometheus", rules.GetLabels()["release"])
	dashboard := one[corev1.ConfigMap](t, all, "ConfigMap", "registry-operator-dashboard")
	require.Equal(t, "registries", dashboard.Labels["folder"])
	require.Equal(t, "1", dashboard.Labels["grafana_dashboard"])
	want, err := os.ReadFile(root + "/config/prometheus/dashboard.json")
	require.NoError(t, err)
	require.JSONEq(t, string(want), dashboard.Data["atcr.json"])
}

// The operator reads its flags before it looks for a cluster, so an operator that misses its cluster understood them.
func TestTheOperatorUnderstandsEveryFlag(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "atcr-operator")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "atcr.io/operator/controllers/cmd/atcr-operator").CombinedOutput()
	require.NoError(t, err, string(out))
	start := func(args []string) string {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Env = []string{"KUBECONFIG=" + filepath.Join(t.TempDir(), "none")}
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		return string(out)
	}
	for _, values := range valueFiles {
		d := objects(t, values)
		args := one[appsv1.Deployment](t, d, "Deployment", ofKind(d, "Deployment")[0].GetName()).Spec.Template.Spec.Containers[0].Args
		require.Contains(t, start(args), "finding the cluster", "%s: %v", values, args)
	}
	require.NotContains(t, start([]string{"--no-such-flag"}), "finding the cluster")
}

// The roles of the listed namespaces hold every right of the ClusterRole that a namespace can give.
func TestNamespacedRolesReachNoSecretElsewhere(t *testing.T) {
	all := objects(t, "namespaced.yaml")
	for _, role := range ofKind(all, "ClusterRole") {
		text, err := json.Marshal(role.Object["rules"])
		require.NoError(t, err)
		require.NotContains(t, string(text), "secrets", role.GetName())
		require.NotContains(t, string(text), "*", role.GetName())
		require.NotEmpty(t, role.GetLabels()["rbac.authorization.k8s.io/aggregate-to-view"]+role.GetLabels()["rbac.authorization.k8s.io/aggregate-to-edit"])
	}
	require.Empty(t, ofKind(all, "ClusterRoleBinding"))

	want := permissions(one[rbacv1.ClusterRole](t, config(t, "rbac/role.yaml"), "ClusterRole", "atcr-operator").Rules)
	want = slices.DeleteFunc(want, func(p string) bool {
		return strings.HasPrefix(p, "/namespaces ") || strings.Contains(p, "/customresourcedefinitions ")
	})
	var where []string
	for _, o := range ofKind(all, "Role") {
		if o.GetName() != "atcr-operator" {
			continue
		}
		where = append(where, o.GetNamespace())
		role := one[rbacv1.Role](t, []*unstructured.Unstructured{o}, "Role", o.GetName())
		require.Equal(t, want, permissions(role.Rules))
	}
	require.Equal(t, []string{"team-a", "team-b"}, where)
	d := one[appsv1.Deployment](t, all, "Deployment", "atcr-operator")
	require.Contains(t, d.Spec.Template.Spec.Containers[0].Args, "--watch-namespaces=team-a,team-b")
}

func permissions(rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				for _, v := range r.Verbs {
					out = append(out, g+"/"+res+" "+v)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestATenantInstallsNothingOutsideNamespaces(t *testing.T) {
	for _, o := range objects(t, "tenant.yaml") {
		require.NotEmpty(t, o.GetNamespace(), "%s %s", o.GetKind(), o.GetName())
	}
}
