package manager_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/manager"
)

func TestMain(m *testing.M) {
	os.Exit(controltest.Main(m, controltest.Promise{Kind: "AppView", Only: []string{v1alpha1.ConditionMonitored}}))
}

// install applies the manifests of a folder of config/.
func install(t *testing.T, e *controltest.Env, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "config", folder, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
		for {
			o := &unstructured.Unstructured{}
			if err := d.Decode(o); errors.Is(err, io.EOF) {
				break
			} else {
				require.NoError(t, err, file)
			}
			if o.GetKind() == "Kustomization" {
				continue
			}
			require.NoError(t, client.IgnoreAlreadyExists(e.Client.Create(t.Context(), o)), file)
		}
	}
}

// asServiceAccount runs the operator with the rights that config/rbac gives it, and no others.
func asServiceAccount(cfg *rest.Config, o *manager.Options) {
	cfg.Impersonate.UserName = "system:serviceaccount:atcr-system:atcr-operator"
	cfg.Impersonate.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:atcr-system", "system:authenticated"}
	o.LeaderElect, o.LeaderElectionNamespace = true, "atcr-system"
}

func TestTheRightsInConfigAreEnough(t *testing.T) {
	e := controltest.New(t)
	install(t, e, "manager") // the namespace; nobody runs its Deployment here
	install(t, e, "rbac")
	var denied controltest.Denied
	e.Install(optional.HTTPRoute)
	e.Install(optional.Certificate)
	e.Install(optional.ServiceMonitor)
	e.Install(optional.ReferenceGrant)
	e.Operator(controltest.Everywhere(), asServiceAccount, denied.Watch)
	e.Kubelet()
	hold := e.NewHold()
	other := e.OtherNamespace(map[string]string{"team": "a"})

	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	av.Spec.HoldLinks.AllowedNamespaces = v1alpha1.AllowedNamespaces{
		From: v1alpha1.FromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}},
	}
	av.Spec.Exposure.Gateway = &v1alpha1.Gateway{
		ParentRefs: []v1alpha1.ParentReference{{Name: "edge"}}, Hostnames: []v1alpha1.Hostname{"registry.example.com"},
	}
	av.Spec.Keys.Signing = v1alpha1.SigningKey{
		Source: v1alpha1.KeyCertManager, CertManager: &v1alpha1.CertManagerKey{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}},
	}
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold", Namespace: other}}
	link.Spec.AppViewRef = v1alpha1.AppViewReference{Name: "registry", Namespace: v1alpha1.NamespaceName(e.Namespace)}
	link.Spec.Hold.URL = v1alpha1.Origin(hold.URL)
	byService := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "service"}}
	byService.Spec.AppViewRef.Name = "registry"
	byService.Spec.Hold.ServiceRef = &v1alpha1.ServiceReference{Name: "nowhere"}
	foreign := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}}
	foreign.Spec.AppViewRef.Name = "registry"
	foreign.Spec.Hold.ServiceRef = &v1alpha1.ServiceReference{Name: "hold", Namespace: v1alpha1.NamespaceName(other)}
	foreign.Spec.Role = v1alpha1.RoleMember
	e.Create(av, link, byService, foreign)
	e.HoldLink("foreign", "Resolved=False/RefNotPermitted")
	e.HoldLinkIn(other, "hold", "Resolved=True", "Healthy=True")
	e.HoldLink("service", "Resolved=False/ServiceNotFound")

	e.AppView("registry", "KeysReady=False/CertificateNotReady", "Exposed=False/Pending")
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Exposure = v1alpha1.Exposure{Ingress: &v1alpha1.Ingress{Hosts: []v1alpha1.Hostname{"registry.example.com"}}}
		av.Spec.Keys.Signing = v1alpha1.SigningKey{}
		av.Spec.DefaultHold = &v1alpha1.DefaultHold{HoldLinkRef: &v1alpha1.HoldLinkReference{Name: "hold", Namespace: v1alpha1.NamespaceName(other)}}
		av.Spec.DeletionPolicy = v1alpha1.DeletionPolicy{Data: v1alpha1.Delete, Keys: v1alpha1.Retain}
	})
	e.AppView("registry", "Ready=True")
	e.Event("registry", "Ready")
	e.HoldLinkIn(other, "hold", "Ready=True")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Image = "registry.test/atcr-appview:v1" })
	e.Until("another image, which a pod has tried", func() bool { return e.AppView("registry", "Ready=True").Status.Version == "v1" })

	e.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pg-app"}, StringData: map[string]string{"uri": "postgres://u:p@h/d"}})
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Database.Type = v1alpha1.DatabasePostgreSQL
		av.Spec.Database.PostgreSQL = &v1alpha1.PostgreSQL{SecretRef: v1alpha1.DatabaseSecretReference{Name: "pg-app"}}
		av.Spec.PodTemplate.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: controltest.Quantity("100m")}
		av.Spec.Autoscaling = &v1alpha1.Autoscaling{Max: 3}
		av.Spec.NetworkPolicy.Mode = v1alpha1.Enabled
	})
	e.AppView("registry", "Ready=True", "DatabaseReady=True/Connected", "Monitored=True")
	for _, o := range []client.Object{&policyv1.PodDisruptionBudget{}, &networkingv1.NetworkPolicy{}} {
		e.Eventually("a budget, and a network policy", func() error {
			return e.Client.Get(t.Context(), client.ObjectKeyFromObject(av), o)
		})
	}
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Autoscaling, av.Spec.NetworkPolicy.Mode = nil, v1alpha1.Disabled
		av.Spec.Monitoring.ServiceMonitor = v1alpha1.ServiceMonitorDisabled
	})
	e.AppView("registry", "Ready=True")

	willing := e.OtherNamespace(map[string]string{v1alpha1.LabelPullSecretsFrom: e.Namespace})
	e.Create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: willing}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson,
			StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{"r.example.com":{"auth":"YTpi"}}}`}})
	public := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-public"}}
	require.NoError(t, client.IgnoreAlreadyExists(e.Client.Create(t.Context(), public)))
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.ClusterPull = &v1alpha1.ClusterPull{LocalRegistryHosting: v1alpha1.Enabled,
			PullSecrets: &v1alpha1.PullSecrets{SourceSecretRef: v1alpha1.LocalReference{Name: "pull"}}}
	})
	e.AppView("registry", "Ready=True", "ClusterPullReady=True/Published")
	copied := &corev1.Secret{}
	e.Until("the account lists the copy", func() bool {
		a := &corev1.ServiceAccount{}
		require.NoError(t, e.Client.Get(t.Context(), client.ObjectKey{Namespace: willing, Name: "default"}, a))
		return len(a.ImagePullSecrets) == 1
	})
	require.NoError(t, e.Client.Get(t.Context(), client.ObjectKey{Namespace: willing, Name: "pull"}, copied))
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.ClusterPull = nil })
	e.AppView("registry", "Ready=True", "ClusterPullReady=")
	require.True(t, apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(copied), copied)))

	require.NoError(t, e.Client.Delete(t.Context(), av))
	e.Eventually("the AppView is gone", func() error {
		if err := e.Client.Get(t.Context(), client.ObjectKeyFromObject(av), av); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there, or: %w", err)
		}
		return nil
	})
	require.Empty(t, denied.Requests())
}

func TestTheOperatorMayNotDoMoreThanItNeeds(t *testing.T) {
	role := &rbacv1.ClusterRole{}
	raw, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(raw, role))
	for _, rule := range role.Rules {
		all := strings.Join(append(append(rule.APIGroups, rule.Resources...), rule.Verbs...), " ")
		require.NotContains(t, all, "*")
		for _, verb := range []string{"update", "deletecollection", "escalate", "bind", "impersonate"} {
			if rule.Resources[0] != "appviews/finalizers" {
				require.NotContains(t, rule.Verbs, verb, "%v", rule.Resources)
			}
		}
	}
}

func TestKubectlScale(t *testing.T) {
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"}
	e.Create(av)
	e.AppView("registry", "Ready=True")

	scale := &autoscalingv1.Scale{}
	require.NoError(t, e.Client.SubResource("scale").Get(t.Context(), av, scale))
	require.EqualValues(t, 1, scale.Status.Replicas)
	require.NotEmpty(t, scale.Status.Selector)
	scale.Spec.Replicas = 0
	require.NoError(t, e.Client.SubResource("scale").Update(t.Context(), av, client.WithSubResourceBody(scale)))
	e.AppView("registry", "Ready=True", "Available=True/ScaledToZero")

	require.NoError(t, e.Client.SubResource("scale").Get(t.Context(), av, scale))
	scale.Spec.Replicas = 3
	require.ErrorContains(t, e.Client.SubResource("scale").Update(t.Context(), av, client.WithSubResourceBody(scale)), "database.type PostgreSQL")
}

// What the cluster is full of stays out of the operator's memory and rights: it sees only Secrets with its label.
func TestForeignSecretsAreNotCached(t *testing.T) {
	e := controltest.New(t)
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}}
	ours := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "ours", Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}}}
	e.Create(foreign, ours)
	op := e.Operator()
	var list corev1.SecretList
	e.Eventually("Secrets are watched", func() error {
		return op.GetCache().List(t.Context(), &list, client.InNamespace(e.Namespace))
	})
	require.Len(t, list.Items, 1)
	require.Equal(t, "ours", list.Items[0].Name)
	require.Empty(t, list.Items[0].ManagedFields)
}
