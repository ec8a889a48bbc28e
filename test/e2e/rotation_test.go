package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/test/rotation"
)

const (
	pullsPerSecond = 200
	pullers        = 40
)

// pulls is a load of pulls of an image, from where nodes pull.
func (w *world) pulls(t *testing.T, address, repository string, perSecond rate.Limit) *rotation.Running {
	t.Helper()
	ref, err := name.NewTag(address+"/"+repository+":v1", name.Insecure)
	require.NoError(t, err)
	image, err := remote.Image(ref, remote.WithContext(t.Context()))
	require.NoError(t, err)
	digest, err := image.Digest()
	require.NoError(t, err)
	config, err := image.ConfigName()
	require.NoError(t, err)
	return rotation.Start(t.Context(), rotation.Load{
		Rate: perSecond, Clients: pullers,
		Replicas: []string{"http://" + address}, Reconnect: true, // each connection goes to a pod of kube-proxy's choice
		Users:  []rotation.User{{}, {Name: "alice.test", Password: appPassword}},
		Images: []rotation.Image{{Repository: repository, Tag: "v1", Digest: digest.String(), Blob: config.String()}},
	})
}

// noneFailed ends a load of which no pull may have failed.
func noneFailed(t *testing.T, running *rotation.Running) rotation.Counts {
	t.Helper()
	counts := running.Stop()
	require.NotZero(t, counts.Pulls)
	require.Zero(t, counts.Failed, counts.FirstFailure)
	require.Zero(t, counts.Unexpected)
	return counts
}

// rotateUnderLoad rotates the signing key of an AppView while clients pull an image of it without a pause. No pull fails,
// no token is refused, and no pod is replaced or restarted. `make soak` asks for more rotations, and a load that goes on
// after the last.
func (w *world) rotateUnderLoad(t *testing.T, appView, address, repository string) {
	t.Helper()
	before := w.serverPods(t, appView)
	running := w.pulls(t, address, repository, pullsPerSecond)
	count := number(t, "E2E_ROTATIONS", 3)
	for i := range count + 1 {
		kid := w.signingKey(t, appView)
		if i > 0 {
			kid = w.rotate(t, appView, fmt.Sprint("e2e-", i))
		}
		eventually(t, "the key has signed a token", func(context.Context) error {
			if !running.Signed(kid) {
				return fmt.Errorf("no client has one of key %s", kid)
			}
			return nil
		})
		t.Logf("rotation %d of %d: %s", i, count, running.Counts())
	}
	after := time.NewTimer(time.Duration(number(t, "E2E_SOAK_SECONDS", 0)) * time.Second)
	defer after.Stop()
	select {
	case <-after.C:
	case <-t.Context().Done():
	}
	counts := noneFailed(t, running)
	t.Logf("%d rotations, %d pods, %s: %s", count, len(before), counts.Took.Round(time.Second), counts)
	require.Greater(t, counts.PerSecond(), float64(rotation.Stalled))
	require.Equal(t, count+1, counts.SigningKeys, "every rotation brought another key")
	require.Equal(t, before, w.serverPods(t, appView), "a rotation replaces and restarts no pod")
}

func (w *world) signingKey(t *testing.T, appView string) string {
	t.Helper()
	var a operatorv1alpha1.AppView
	require.NoError(t, w.Get(t.Context(), key(appView), &a))
	return a.Status.Keys.Signing.Current.Kid
}

// rotate asks for a rotation and waits until every server signs with the key that was next.
func (w *world) rotate(t *testing.T, appView, request string) (kid string) {
	t.Helper()
	var a operatorv1alpha1.AppView
	require.NoError(t, w.Get(t.Context(), key(appView), &a))
	before := a.Status.Keys.Signing.Current.Kid
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, operatorv1alpha1.AnnotationRotate, request)
	require.NoError(t, w.Patch(t.Context(), &a, client.RawPatch("application/merge-patch+json", patch)))
	eventually(t, "rotation "+request, func(ctx context.Context) error {
		if err := w.Get(ctx, key(appView), &a); err != nil {
			return err
		}
		keys := a.Status.Keys.Signing
		if keys.LastRequest != request || keys.Current.Kid == before {
			return fmt.Errorf("key %s signs, the last request is %q", keys.Current.Kid, keys.LastRequest)
		}
		for _, k := range keys.Retired {
			if k.Until == nil {
				return fmt.Errorf("a server may still sign with key %s", k.Kid)
			}
		}
		return nil
	})
	return a.Status.Keys.Signing.Current.Kid
}

// serverPods are the pods of an AppView's server and how often they were restarted.
func (w *world) serverPods(t *testing.T, appView string) map[string]int32 {
	t.Helper()
	var pods corev1.PodList
	require.NoError(t, w.List(t.Context(), &pods, client.InNamespace(namespace), client.MatchingLabels{operatorv1alpha1.LabelAppView: appView}))
	out := map[string]int32{}
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			out[p.Name] += c.RestartCount
		}
	}
	require.NotEmpty(t, out)
	return out
}

// number is a variable that `make soak` sets.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	v := os.Getenv(variable)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err, variable)
	return n
}
