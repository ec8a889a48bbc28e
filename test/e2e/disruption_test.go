package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/test/rotation"
)

// disruptedPerSecond are the pulls that go on meanwhile.
const disruptedPerSecond = 50

// disruptions are what happens to a registry of several replicas in the life of a cluster. They need a node on this
// machine: they stop its processes, and nobody else's node is cordoned.
var disruptions = []struct {
	name    string
	happens func(w *world, t *testing.T, appView, address, repository string)
}{
	{"a rollout replaces every pod, and no pull fails", (*world).rollout},
	{"an image that cannot be pulled: no pull fails, and the next image takes over", (*world).unpullable},
	{"a server that is killed is back by itself", (*world).killServer},
	{"a cordoned node, and an evicted replica: no pull fails", (*world).evict},
	{"an operator that is killed goes on where it was", (*world).killOperator},
	{"pulls go on without an API server, and the operator after it", (*world).restartAPIServer},
}

func (w *world) rollout(t *testing.T, appView, address, repository string) {
	before := w.serverPods(t, appView)
	running := w.pulls(t, address, repository, disruptedPerSecond)
	w.setLogLevel(t, appView, "debug")
	w.waitAppView(t, appView)
	for pod := range before {
		w.gone(t, &corev1.Pod{}, pod)
	}
	noneFailed(t, running)
	require.Len(t, w.serverPods(t, appView), len(before))
}

// unpullable gives the AppView an image that nobody has, and takes it away again. The pods that run stay what they are.
func (w *world) unpullable(t *testing.T, appView, address, repository string) {
	before := w.serverPods(t, appView)
	running := w.pulls(t, address, repository, disruptedPerSecond)
	absent := publicRegistry + "/alice.test/hello:absent"
	w.setImage(t, appView, new(absent))
	eventually(t, "the AppView says which image cannot be pulled, and what helps", func(ctx context.Context) error {
		var a operatorv1alpha1.AppView
		if err := w.Get(ctx, key(appView), &a); err != nil {
			return err
		}
		c := meta.FindStatusCondition(a.Status.Conditions, operatorv1alpha1.ConditionReady)
		if a.Status.ObservedGeneration != a.Generation || c == nil || c.Status != metav1.ConditionFalse || c.Reason != operatorv1alpha1.ReasonImagePullFailed ||
			!strings.Contains(c.Message, absent) || !strings.Contains(c.Message, "check spec.image") {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	w.setImage(t, appView, nil)
	w.waitAppView(t, appView)
	noneFailed(t, running)
	eventually(t, "the pod without an image is gone", func(context.Context) error {
		if now := w.serverPods(t, appView); !maps.Equal(now, before) {
			return fmt.Errorf("%v, before %v", now, before)
		}
		return nil
	})
}

func (w *world) killServer(t *testing.T, appView, address, repository string) {
	before := w.serverPods(t, appView)
	victim := anyOf(before)
	var pod corev1.Pod
	require.NoError(t, w.Get(t.Context(), key(victim), &pod))
	kill(t, "atcr-appview", string(pod.UID), syscall.SIGKILL)
	eventually(t, "the kubelet starts it again", func(ctx context.Context) error {
		if err := w.Get(ctx, key(victim), &pod); err != nil {
			return err
		}
		for _, c := range pod.Status.ContainerStatuses {
			if c.RestartCount == before[victim]+1 && c.Ready {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	w.waitAppView(t, appView)
	after := w.serverPods(t, appView)
	after[victim]--
	require.Equal(t, before, after, "the others are as they were")
	running := w.pulls(t, address, repository, disruptedPerSecond)
	enough(t, running)
	noneFailed(t, running)
}

func (w *world) evict(t *testing.T, appView, address, repository string) {
	before := w.serverPods(t, appView)
	victim := anyOf(before)
	w.cordon(t, true)
	t.Cleanup(func() { w.cordon(t, false) })
	running := w.pulls(t, address, repository, disruptedPerSecond)
	require.NoError(t, w.evictPod(t, victim))
	w.gone(t, &corev1.Pod{}, victim)
	eventually(t, "the AppView says that no node takes the pod", func(ctx context.Context) error {
		var a operatorv1alpha1.AppView
		if err := w.Get(ctx, key(appView), &a); err != nil {
			return err
		}
		c := meta.FindStatusCondition(a.Status.Conditions, operatorv1alpha1.ConditionAvailable)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != operatorv1alpha1.ReasonUnschedulable {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	delete(before, victim)
	require.True(t, apierrors.IsTooManyRequests(w.evictPod(t, anyOf(before))), "the disruption budget keeps the others")
	w.cordon(t, false)
	w.waitAppView(t, appView)
	noneFailed(t, running)
	after := w.serverPods(t, appView)
	require.Len(t, after, len(before)+1)
	require.NotContains(t, after, victim)
}

// evictPod asks for what a drain of a node asks for.
func (w *world) evictPod(t *testing.T, pod string) error {
	t.Helper()
	return w.pods.PolicyV1().Evictions(namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: namespace}})
}

// killOperator lets the operator end in the middle of a rollout that it has just begun.
func (w *world) killOperator(t *testing.T, appView, address, repository string) {
	var pods corev1.PodList
	require.NoError(t, w.List(t.Context(), &pods, client.InNamespace("atcr-system"), client.MatchingLabels{"app.kubernetes.io/name": "atcr-operator"}))
	require.NotEmpty(t, pods.Items)
	before, secrets := w.serverPods(t, appView), w.secretsOf(t, appView)
	running := w.pulls(t, address, repository, disruptedPerSecond)
	w.setLogLevel(t, appView, "info")
	for _, p := range pods.Items {
		kill(t, "atcr-operator", string(p.UID), syscall.SIGKILL)
	}
	w.waitAppView(t, appView)
	for pod := range before {
		w.gone(t, &corev1.Pod{}, pod)
	}
	noneFailed(t, running)
	require.Equal(t, secrets, w.secretsOf(t, appView), "no key was made again")
}

func (w *world) restartAPIServer(t *testing.T, appView, address, repository string) {
	before := w.serverPods(t, appView)
	running := w.pulls(t, address, repository, disruptedPerSecond)
	old := kill(t, "kube-apiserver", "", syscall.SIGKILL)
	eventually(t, "another API server answers", func(ctx context.Context) error {
		if now := processes(t, "kube-apiserver", ""); len(now) == 0 || now[0] == old {
			return errors.New("there is none yet")
		}
		return w.pods.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	noneFailed(t, running)
	require.Equal(t, before, w.serverPods(t, appView), "no pod was replaced or restarted")
	// The operator works again: it acknowledges what it is asked.
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"after"}}}`, operatorv1alpha1.AnnotationReconcile)
	a := &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: appView, Namespace: namespace}}
	eventually(t, "the AppView is annotated", func(ctx context.Context) error {
		return w.Patch(ctx, a, client.RawPatch("application/merge-patch+json", patch))
	})
	eventually(t, "the operator has looked", func(ctx context.Context) error {
		if err := w.Get(ctx, key(appView), a); err != nil {
			return err
		}
		if a.Status.LastHandledReconcileAt != "after" {
			return fmt.Errorf("it has acknowledged %q", a.Status.LastHandledReconcileAt)
		}
		return nil
	})
	w.waitAppView(t, appView)
}

func (w *world) setLogLevel(t *testing.T, appView, level string) {
	t.Helper()
	w.change(t, appView, fmt.Sprintf(`{"spec":{"logging":{"level":%q}}}`, level))
}

// setImage makes the AppView run an image; nil: the operator's.
func (w *world) setImage(t *testing.T, appView string, image *string) {
	t.Helper()
	quoted, err := json.Marshal(image)
	require.NoError(t, err)
	w.change(t, appView, fmt.Sprintf(`{"spec":{"image":%s}}`, quoted))
}

// change patches an AppView (RFC 7396).
func (w *world) change(t *testing.T, appView, patch string) {
	t.Helper()
	a := &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: appView, Namespace: namespace}}
	require.NoError(t, w.Patch(t.Context(), a, client.RawPatch(types.MergePatchType, []byte(patch))))
}

// secretsOf are the keys of an AppView: the identity of each Secret, and the key that signs. Keys whose tokens are over go
// meanwhile.
func (w *world) secretsOf(t *testing.T, appView string) map[string]string {
	t.Helper()
	out := map[string]string{"signs": w.signingKey(t, appView)}
	for _, suffix := range []string{"signing", "signing-next", "oauth", "did", "sealing"} {
		s := w.secret(t, appView+"-"+suffix)
		out[s.Name] = string(s.UID)
	}
	return out
}

// cordon keeps pods off every node, or lets them come again.
func (w *world) cordon(t *testing.T, yes bool) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also after the test
	var nodes corev1.NodeList
	require.NoError(t, w.List(ctx, &nodes))
	for i := range nodes.Items {
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, yes)
		require.NoError(t, w.Patch(ctx, &nodes.Items[i], client.RawPatch("application/merge-patch+json", patch)))
	}
}

func anyOf(pods map[string]int32) string {
	for name := range pods {
		return name
	}
	return ""
}

// kill sends a signal to the one process of that program, of a pod when its UID is given, and returns its number.
func kill(t *testing.T, program, podUID string, signal syscall.Signal) int {
	t.Helper()
	found := processes(t, program, podUID)
	require.Len(t, found, 1, "processes of %s in pod %q", program, podUID)
	require.NoError(t, syscall.Kill(found[0], signal))
	return found[0]
}

// processes are those of a program, of a pod when its UID is given. The tests run where the node's processes are seen.
func processes(t *testing.T, program, podUID string) (out []int) {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, folder := range folders {
		command, err := os.ReadFile(folder + "/cmdline")
		if err != nil {
			continue // it has ended
		}
		first, _, _ := bytes.Cut(command, []byte{0})
		if filepath.Base(string(first)) != program {
			continue
		}
		groups, err := os.ReadFile(folder + "/cgroup")
		if err != nil || !strings.Contains(string(groups), podUID) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(folder))
		require.NoError(t, err)
		out = append(out, pid)
	}
	return out
}

// enough waits until clients have pulled a while.
func enough(t *testing.T, running *rotation.Running) {
	t.Helper()
	eventually(t, "clients have pulled a hundred times", func(context.Context) error {
		if n := running.Counts().Pulls; n < 100 {
			return fmt.Errorf("%d pulls", n)
		}
		return nil
	})
}
