package chart

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
)

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

// cluster is a real API server, and a kubeconfig for it.
type cluster struct {
	*controltest.Env
	client     client.Client
	kubeconfig string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	e := controltest.New(t)
	c, err := client.New(e.Config, client.Options{Scheme: scheme(t)})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"c": {Server: e.Config.Host, CertificateAuthorityData: e.Config.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{
			"u": {ClientCertificateData: e.Config.CertData, ClientKeyData: e.Config.KeyData},
		},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path))
	return &cluster{Env: e, client: c, kubeconfig: path}
}

// helm on this cluster, with the test's namespace as the release's.
func (c *cluster) helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t, c.kubeconfig, append(args, "--namespace", c.Namespace)...)
	require.NoError(t, err, out)
	return out
}

func (c *cluster) crd(t *testing.T) (*apiextensionsv1.CustomResourceDefinition, error) {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	return crd, c.client.Get(t.Context(), client.ObjectKey{Name: "appviews.operator.atcr.io"}, crd)
}

func TestAReleaseLeavesTheRegistriesBehind(t *testing.T) {
	c := newCluster(t)
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	c.Create(av)

	notes := c.helm(t, "install", release, chart, "--take-ownership")
	c.acceptsTheExample(t, notes)
	d := &appsv1.Deployment{}
	c.Get("atcr-operator", d)
	crd, err := c.crd(t)
	require.NoError(t, err)
	require.Equal(t, "Helm", crd.Labels["app.kubernetes.io/managed-by"])

	c.helm(t, "upgrade", release, chart, "--set", "replicas=2")
	c.Get("atcr-operator", d)
	require.EqualValues(t, 2, *d.Spec.Replicas)

	c.helm(t, "uninstall", release)
	err = c.Client.Get(t.Context(), client.ObjectKeyFromObject(d), d)
	require.True(t, apierrors.IsNotFound(err) || d.DeletionTimestamp != nil, "uninstalled: %v", err)
	crd, err = c.crd(t)
	require.NoError(t, err)
	require.Nil(t, crd.DeletionTimestamp)
	c.Get("registry", av)
	require.Nil(t, av.DeletionTimestamp)

	// A second install takes the CRDs over without being told to.
	c.helm(t, "install", release, chart)
	c.helm(t, "uninstall", release)
}

// acceptsTheExample applies, as a dry run, the objects that Helm tells the user to make next.
func (c *cluster) acceptsTheExample(t *testing.T, notes string) {
	t.Helper()
	_, rest, _ := strings.Cut(notes, "<<EOF\n")
	example, _, found := strings.Cut(rest, "     EOF")
	require.True(t, found, notes)
	all := parse(t, strings.ReplaceAll("\n"+example, "\n     ", "\n"))
	require.Len(t, all, 2)
	other := c.OtherNamespace(nil)
	for _, o := range all {
		o.SetNamespace(other)
		require.NoError(t, c.client.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")))
	}
}

// The pod passes the restricted Pod Security Standard, with the defaults and with everything set.
func TestThePodIsRestricted(t *testing.T) {
	c := newCluster(t)
	ns := c.OtherNamespace(map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	for _, values := range valueFiles {
		all := objects(t, values)
		d := one[appsv1.Deployment](t, all, "Deployment", ofKind(all, "Deployment")[0].GetName())
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: ns}, Spec: d.Spec.Template.Spec}
		require.NoError(t, c.client.Create(t.Context(), pod, client.DryRunAll), values)
	}
	open := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: ns},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/i"}}},
	}
	require.True(t, apierrors.IsForbidden(c.client.Create(t.Context(), open, client.DryRunAll)), "this API server checks")
}

// The operator runs with the rights of a namespaced install and no others.
func TestTheRightsOfANamespacedInstallAreEnough(t *testing.T) {
	c := newCluster(t)
	foreign := c.OtherNamespace(nil)
	c.helm(t, "install", release, chart, "--take-ownership", "--set", "watchNamespaces={"+c.Namespace+"}")
	t.Cleanup(func() {
		out, err := helm(t, c.kubeconfig, "uninstall", release, "--namespace", c.Namespace)
		require.NoError(t, err, out)
	})
	account := fmt.Sprintf("system:serviceaccount:%s:atcr-operator", c.Namespace)

	require.True(t, c.may(t, account, "list", "secrets", c.Namespace))
	for _, ns := range []string{foreign, ""} {
		for _, verb := range []string{"get", "list", "watch", "create", "patch", "delete"} {
			require.False(t, c.may(t, account, verb, "secrets", ns), "%s secrets in %q", verb, ns)
		}
	}

	operator := c.Operator(func(cfg *rest.Config, o *manager.Options) {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: account}
		o.LeaderElect, o.LeaderElectionNamespace = true, c.Namespace
	})
	c.Kubelet()
	hold := c.NewHold()
	link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "hold01"}}
	link.Spec.AppViewRef.Name = "registry"
	link.Spec.Hold.DID, link.Spec.Endpoint = v1alpha1.DID(hold.DID), v1alpha1.Origin(hold.URL)
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	av.Spec.DeletionPolicy = v1alpha1.DeletionPolicy{Data: v1alpha1.Delete, Keys: v1alpha1.Delete}
	stranger := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: foreign}}
	c.Create(stranger, av, link)
	c.AppView("registry", "Ready=True", "Stalled=", "HoldsHealthy=True")
	c.HoldLink("hold01", "Ready=True")
	require.NoError(t, c.client.Get(t.Context(), client.ObjectKeyFromObject(stranger), stranger))
	require.Empty(t, stranger.Status.Conditions, "another namespace is not this operator's")
	require.Empty(t, stranger.Finalizers)
	for _, list := range []client.ObjectList{&corev1.SecretList{}, &corev1.ServiceList{}, &appsv1.DeploymentList{}} {
		require.NoError(t, c.client.List(t.Context(), list, client.InNamespace(foreign)))
		require.Zero(t, meta.LenList(list), "%T", list)
	}

	require.NoError(t, c.Client.Delete(t.Context(), av))
	c.Eventually("the AppView goes with its data and keys", func() error {
		err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(av), av)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it still has %d finalizers", len(av.Finalizers))
		}
		return err
	})
	operator.Stop()
}

// may asks the API server's authorizer.
func (c *cluster) may(t *testing.T, user, verb, resource, namespace string) bool {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               user,
		Groups:             []string{"system:serviceaccounts", "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Resource: resource, Namespace: namespace},
	}}
	require.NoError(t, c.client.Create(context.WithoutCancel(t.Context()), review))
	return review.Status.Allowed
}
