package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/test/testenv"
)

// config/registry/registry.yaml is all that a registry needs: with the two lines changed that it says to change, and the
// development PDS in place of the public network, a client pushes and a pod runs.
func TestTheRegistryInOneFile(t *testing.T) {
	const ns = "atcr"
	w := newWorld(t)
	w.start(t)
	w.applyOneFile(t)
	t.Cleanup(func() {
		// The AppView first: the operator carries out its deletion policy.
		av := &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: ns}}
		require.NoError(t, client.IgnoreNotFound(w.Delete(context.Background(), av)))
		require.NoError(t, w.Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}))
	})

	var av operatorv1alpha1.AppView
	eventually(t, "the AppView of the file is Ready and its hold healthy", func(ctx context.Context) error {
		if err := w.Get(ctx, client.ObjectKey{Namespace: ns, Name: "registry"}, &av); err != nil {
			return err
		}
		for _, c := range []string{"Ready", "HoldsHealthy"} {
			if !meta.IsStatusConditionTrue(av.Status.Conditions, c) || av.Status.ObservedGeneration != av.Generation {
				return fmt.Errorf("%s is %+v", c, meta.FindStatusCondition(av.Status.Conditions, c))
			}
		}
		return nil
	})
	require.Equal(t, "did:web:hold.atcr.svc.cluster.local", av.Status.DefaultHold.DID)

	address := w.address("registry", oneFilePort)
	w.waitAnswers(t, address)
	skopeo := testenv.Program(t, "skopeo", "install it from your distribution")
	// As carol, who is nobody to this hold: everybody who logs in may push there. Her profile names it from then on, so she
	// has no part in other tests.
	out, err := exec.CommandContext(t.Context(), skopeo, "--insecure-policy", "copy", "--dest-tls-verify=false",
		"--dest-creds", "carol.test:"+appPassword, "oci-archive:"+filepath.Join(w.images, "hello.oci.tar"),
		fmt.Sprintf("docker://%s/carol.test/onefile:v1", address)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	w.pod(t, "onefile", oneFileRegistry+"/carol.test/onefile:v1")
	require.Contains(t, w.waitOutput(t, "onefile"), "hello")
}

// applyOneFile applies the file as a user would after changing it, and as the development PDS needs it.
func (w *world) applyOneFile(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile("../../config/registry/registry.yaml")
	require.NoError(t, err)
	text := string(raw)
	for old, new := range map[string]string{
		"https://registry.example.com":     "http://" + oneFileRegistry,
		"did:plc:ewvi7nxzyoun6zhxrhs64oiz": w.alice,
		"atcr.local/atcr-hold:dev":         "atcr.local/atcr-hold:" + w.tag,
		"storage: 10Gi":                    "storage: 1Gi", // the local node's volumes are small
	} {
		require.Equal(t, 1, strings.Count(text, old), old)
		text = strings.Replace(text, old, new, 1)
	}
	devnet := fmt.Sprintf("http://devnet.%s.svc.cluster.local:2583", namespace)
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var o unstructured.Unstructured
		if err := decoder.Decode(&o); err == io.EOF { //nolint:errorlint // the decoder returns it bare
			return
		} else if len(o.Object) == 0 {
			require.NoError(t, err)
			continue
		}
		switch o.GetKind() {
		case "AppView":
			spec := o.Object["spec"].(map[string]any)
			spec["identity"] = map[string]any{"plcURL": devnet, "handleResolverURL": devnet}
			spec["network"] = map[string]any{"allowedPrivateCIDRs": []any{"10.0.0.0/8"}}
			spec["allowedHosts"] = []any{w.address("registry", oneFilePort)}
			spec["exposure"] = map[string]any{"service": map[string]any{"type": "NodePort", "nodePort": int64(oneFilePort)}}
		case "Deployment":
			containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			require.NoError(t, err)
			c := containers[0].(map[string]any)
			c["env"] = append(c["env"].([]any),
				map[string]any{"name": "HOLD_PLC_URL", "value": devnet},
				map[string]any{"name": "HOLD_ALLOWED_PRIVATE_CIDRS", "value": "10.0.0.0/8"})
			require.NoError(t, unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers"))
		}
		require.NoError(t, w.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(&o),
			client.FieldOwner("e2e"), client.ForceOwnership), "%s %s", o.GetKind(), o.GetName())
	}
}

// upgradeOperator upgrades the operator's release to two replicas and back. The registry's pods stay what they are, and
// the new operator is at work.
func (w *world) upgradeOperator(t *testing.T, appView, address, image string) {
	t.Helper()
	before := w.serverPods(t, appView)
	generation := w.waitAppView(t, appView).Generation
	revision := w.helm(t, "upgrade", "atcr-operator", "../../charts/atcr-operator", "--reuse-values", "--set", "replicas=2,podAnnotations.e2e=upgraded",
		"--wait", "--timeout", patience.String())
	require.Contains(t, revision, "deployed")
	w.asksForReconcile(t, appView, "upgraded")
	var d appsv1.Deployment
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Namespace: "atcr-system", Name: "atcr-operator"}, &d))
	require.EqualValues(t, 2, d.Status.AvailableReplicas)

	w.helm(t, "rollback", "atcr-operator", "1", "--wait", "--timeout", patience.String())
	w.asksForReconcile(t, appView, "rolled-back")
	require.Equal(t, before, w.serverPods(t, appView), "the registry's own pods do not restart for it")
	require.Equal(t, generation, w.waitAppView(t, appView).Generation)
	ref, err := name.ParseReference(address+"/"+image, name.Insecure)
	require.NoError(t, err)
	_, err = remote.Head(ref, remote.WithContext(t.Context()))
	require.NoError(t, err)
}

// asksForReconcile waits until an operator has acted on a new request.
func (w *world) asksForReconcile(t *testing.T, appView, request string) {
	t.Helper()
	request += "-" + time.Now().UTC().Format("150405.000000000")
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, operatorv1alpha1.AnnotationReconcile, request))
	av := &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: appView, Namespace: namespace}}
	require.NoError(t, w.Patch(t.Context(), av, patch))
	eventually(t, "the operator acts on "+request, func(ctx context.Context) error {
		if err := w.Get(ctx, key(appView), av); err != nil {
			return err
		}
		if av.Status.LastHandledReconcileAt != request {
			return fmt.Errorf("it acted on %q last", av.Status.LastHandledReconcileAt)
		}
		return nil
	})
}

// helm runs the pinned helm on the operator's release.
func (w *world) helm(t *testing.T, args ...string) string {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), testenv.Env(t, "E2E_HELM", how), append(args, "--namespace", "atcr-system")...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+testenv.Env(t, "TEST_KUBECONFIG", how),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
