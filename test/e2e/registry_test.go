package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/test/testenv"
)

// Names under which pods pull, and the node ports behind them: the script that starts the cluster has told the nodes.
const (
	publicRegistry, publicPort   = "registry.e2e.test", int32(30500)
	privateRegistry, privatePort = "vault.e2e.test", int32(30501)

	sharedPort = int32(30502) // of the AppView with several replicas

	oneFileRegistry, oneFilePort = "onefile.e2e.test", int32(30503)
)

func TestRegistry(t *testing.T) {
	w, whole := newWorld(t), t
	w.start(t)
	// Each step builds on the ones before it.
	step := func(name string, run func(t *testing.T)) {
		if !t.Run(name, run) {
			t.FailNow()
		}
	}

	step("an AppView that nobody gave a hold says what is missing", func(t *testing.T) {
		w.createAppView(t, "registry", publicPort)
		eventually(t, "DefaultHoldResolved is False", func(ctx context.Context) error {
			var a operatorv1alpha1.AppView
			if err := w.Get(ctx, key("registry"), &a); err != nil {
				return err
			}
			c := meta.FindStatusCondition(a.Status.Conditions, "DefaultHoldResolved")
			if c == nil || c.Status != metav1.ConditionFalse || c.Reason != "NoHold" || c.Message == "" {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
	})

	step("an AppView and its HoldLink become Ready", func(t *testing.T) {
		w.createHoldLink(t, "hold", "registry")
		link := w.waitHoldLink(t, "hold")
		require.Equal(t, holdDID("hold"), link.Status.DID)
		a := w.waitAppView(t, "registry")
		require.Equal(t, holdDID("hold"), a.Status.DefaultHold.DID)
		require.NotEmpty(t, a.Status.URL)
	})

	archive := filepath.Join(w.images, "hello.oci.tar")
	step("a real client pushes a real image", func(t *testing.T) {
		skopeo := testenv.Program(t, "skopeo", "install it from your distribution")
		w.waitAnswers(t, w.address("registry", publicPort))
		destination := fmt.Sprintf("docker://%s/alice.test/hello:v1", w.address("registry", publicPort))
		out, err := exec.CommandContext(t.Context(), skopeo, "--insecure-policy", "copy", "--dest-tls-verify=false",
			"--dest-creds", "alice.test:"+appPassword, "oci-archive:"+archive, destination).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})

	step("a pod runs from it anonymously, by tag", func(t *testing.T) {
		w.pod(t, "anonymous", publicRegistry+"/alice.test/hello:v1")
		require.Contains(t, w.waitOutput(t, "anonymous"), "hello")
	})

	step("the operator is upgraded by its chart while the registry serves", func(t *testing.T) {
		w.upgradeOperator(t, "registry", w.address("registry", publicPort), "alice.test/hello:v1")
	})

	step("an image that cannot be pulled never takes the place of the one server on SQLite: no pull fails", func(t *testing.T) {
		w.unpullable(t, "registry", w.address("registry", publicPort), "alice.test/hello")
	})

	step("the signing key rotates under a load of pulls, and none of them fails", func(t *testing.T) {
		if !w.onThisMachine(t) {
			t.Log("PostgreSQL cannot be a process on the node's address here: one replica, on SQLite")
			w.rotateUnderLoad(t, "registry", w.address("registry", publicPort), "alice.test/hello")
			return
		}
		w.startPostgres(whole)
		w.createAppView(t, "shared", sharedPort, func(s *operatorv1alpha1.AppViewSpec) {
			s.Replicas = new(int32(3))
			s.Database = operatorv1alpha1.Database{Type: operatorv1alpha1.DatabasePostgreSQL,
				PostgreSQL: &operatorv1alpha1.PostgreSQL{SecretRef: operatorv1alpha1.DatabaseSecretReference{Name: "postgres"}}}
		})
		w.linkHold(t, "hold-shared", "hold", "shared")
		w.waitAppView(t, "shared")
		w.waitAnswers(t, w.address("shared", sharedPort))
		w.rotateUnderLoad(t, "shared", w.address("shared", sharedPort), "alice.test/hello")
	})

	if w.onThisMachine(t) {
		address := w.address("shared", sharedPort)
		for _, d := range disruptions {
			step(d.name, func(t *testing.T) { d.happens(w, t, "shared", address, "alice.test/hello") })
		}
		step("the registry of three replicas goes", func(t *testing.T) {
			require.NoError(t, w.Delete(t.Context(), &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "shared", Namespace: namespace}}))
			w.gone(t, &appsv1.Deployment{}, "shared")
		})
	}

	// As bob: alice's profile names the public hold since her first push, and a user's own choice wins.
	step("a private hold gives its blobs to a pull secret only", func(t *testing.T) {
		w.createAppView(t, "vault", privatePort)
		w.createHoldLink(t, "safe", "vault")
		w.waitAppView(t, "vault")
		w.pushVariant(t, archive, fmt.Sprintf("%s/bob.test/secret:v1", w.address("vault", privatePort)), "bob.test")

		w.pod(t, "stranger", privateRegistry+"/bob.test/secret:v1")
		refusal := w.waitRefused(t, "stranger")
		require.Regexp(t, "401|403|[Uu]nauthorized|authorization failed|denied", refusal)

		w.createPullSecret(t, "bob", privateRegistry, "bob.test")
		w.pod(t, "friend", privateRegistry+"/bob.test/secret:v1", "bob")
		require.Contains(t, w.waitOutput(t, "friend"), "hello")
	})

	step("a node pulls by the operator's ConfigMap, and a pod elsewhere by its copied pull secret", func(t *testing.T) {
		w.pullByNodeConfig(t, archive)
	})

	step("deletion keeps data and keys, and a new AppView of the name takes them up", func(t *testing.T) {
		before := w.secret(t, "registry-signing")
		var claim corev1.PersistentVolumeClaimList
		require.NoError(t, w.Delete(t.Context(), &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: namespace}}))
		w.gone(t, &operatorv1alpha1.AppView{}, "registry")
		w.gone(t, &appsv1.Deployment{}, "registry")
		w.gone(t, &corev1.Service{}, "registry")

		kept := w.secret(t, "registry-signing")
		require.Equal(t, before.UID, kept.UID)
		require.Empty(t, kept.OwnerReferences)
		w.secret(t, "registry-sealing")
		require.NoError(t, w.List(t.Context(), &claim, client.InNamespace(namespace), client.MatchingLabels{"operator.atcr.io/retained": "true"}))
		require.Len(t, claim.Items, 1, "the database's claim is kept")

		w.createAppView(t, "registry", publicPort)
		w.waitAppView(t, "registry")
		again := w.secret(t, "registry-signing")
		require.Equal(t, before.UID, again.UID, "the key is adopted, not made anew")
		require.Equal(t, before.Data, again.Data)
		w.pod(t, "afterwards", publicRegistry+"/alice.test/hello:v1")
		require.Contains(t, w.waitOutput(t, "afterwards"), "hello")
	})
}

func holdDID(hold string) string {
	return fmt.Sprintf("did:web:%s.%s.svc.cluster.local", hold, namespace)
}

func (w *world) address(_ string, port int32) string { return fmt.Sprintf("%s:%d", w.nodeIP, port) }

func (w *world) createAppView(t *testing.T, name string, nodePort int32, change ...func(*operatorv1alpha1.AppViewSpec)) {
	t.Helper()
	a := &operatorv1alpha1.AppView{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: operatorv1alpha1.AppViewSpec{
			Exposure:     operatorv1alpha1.Exposure{Service: operatorv1alpha1.Service{Type: corev1.ServiceTypeNodePort, NodePort: nodePort}},
			Tokens:       operatorv1alpha1.Tokens{Expiration: "1m"}, // the shortest, so that tokens of rotated keys end
			AllowedHosts: []operatorv1alpha1.Host{operatorv1alpha1.Host(w.address(name, nodePort))},
			Network:      operatorv1alpha1.Network{AllowedPrivateCIDRs: []operatorv1alpha1.CIDR{"10.0.0.0/8"}},
			Identity: operatorv1alpha1.Identity{
				PLCURL:            operatorv1alpha1.Origin(devnetURL),
				HandleResolverURL: operatorv1alpha1.Origin(devnetURL),
			},
		},
	}
	for _, c := range change {
		c(&a.Spec)
	}
	require.NoError(t, w.Create(t.Context(), a))
}

const devnetURL = "http://devnet." + namespace + ".svc.cluster.local:2583"

func (w *world) createHoldLink(t *testing.T, hold, appView string) {
	t.Helper()
	w.linkHold(t, hold, hold, appView)
}

func (w *world) linkHold(t *testing.T, link, hold, appView string) {
	t.Helper()
	require.NoError(t, w.Create(t.Context(), &operatorv1alpha1.HoldLink{
		ObjectMeta: metav1.ObjectMeta{Name: link, Namespace: namespace},
		Spec: operatorv1alpha1.HoldLinkSpec{
			AppViewRef: operatorv1alpha1.AppViewReference{Name: operatorv1alpha1.ObjectName(appView)},
			Hold:       operatorv1alpha1.HoldSource{DID: operatorv1alpha1.DID(holdDID(hold))},
			Endpoint:   operatorv1alpha1.Origin(fmt.Sprintf("http://%s.%s.svc.cluster.local", hold, namespace)),
			Download:   operatorv1alpha1.DownloadProxy,
		},
	}))
}

// pushVariant pushes the archive's image with one more layer, so that no node has it already.
func (w *world) pushVariant(t *testing.T, archive, reference, user string) {
	t.Helper()
	image := imageOf(t, archive)
	extra, err := random.Layer(64<<10, types.OCILayer)
	require.NoError(t, err)
	image, err = mutate.AppendLayers(image, extra)
	require.NoError(t, err)
	ref, err := name.ParseReference(reference, name.Insecure)
	require.NoError(t, err)
	eventually(t, "push of "+reference, func(ctx context.Context) error {
		return remote.Write(ref, image, remote.WithContext(ctx), remote.WithAuth(&authn.Basic{Username: user, Password: appPassword}))
	})
}

func (w *world) createPullSecret(t *testing.T, name, registry, user string) {
	t.Helper()
	config, err := json.Marshal(map[string]any{"auths": map[string]any{registry: map[string]string{
		"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + appPassword)),
	}}})
	require.NoError(t, err)
	require.NoError(t, w.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: config},
	}))
}

func (w *world) secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	var s corev1.Secret
	require.NoError(t, w.Get(t.Context(), key(name), &s))
	return &s
}
