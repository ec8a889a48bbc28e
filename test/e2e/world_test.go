package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/test/testenv"
)

const (
	namespace   = "atcr-e2e"
	appPassword = "e2ee-test-pass-word"

	// How long a step of the cluster may take: pods of a cold node, on two cores that others share.
	patience = 3 * time.Minute
)

// world is the cluster and what the tests put into it.
type world struct {
	client.Client
	pods   kubernetes.Interface
	tag    string
	images string // folder of the OCI archives
	nodeIP string
	alice  string // DID
}

const how = "run `make test-e2e`, which starts a cluster and sets it"

func newWorld(t *testing.T) *world {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", testenv.Env(t, "TEST_KUBECONFIG", how))
	require.NoError(t, err)
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, operatorv1alpha1.AddToScheme(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	w := &world{
		Client: c,
		pods:   kubernetes.NewForConfigOrDie(config),
		tag:    testenv.Env(t, "E2E_TAG", how),
		images: testenv.Env(t, "E2E_IMAGES", how),
		nodeIP: testenv.Env(t, "E2E_NODE_IP", how),
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.describe(t)
		}
	})
	return w
}

// start brings up the development PDS and both holds.
func (w *world) start(t *testing.T) {
	t.Helper()
	w.apply(t, "testdata/world.yaml", map[string]string{"PASSWORD": "e2e-account-password", "APP_PASSWORD": appPassword})
	w.waitDeployment(t, "devnet")
	w.alice = w.resolve(t, "alice.test")
	w.apply(t, "testdata/hold.yaml", map[string]string{"HOLD": "hold", "PUBLIC": "true", "OWNER": w.alice})
	w.apply(t, "testdata/hold.yaml", map[string]string{"HOLD": "safe", "PUBLIC": "false", "OWNER": w.resolve(t, "bob.test")})
	w.waitDeployment(t, "hold")
	w.waitDeployment(t, "safe")
}

// apply creates or updates the objects of a manifest by server-side apply.
func (w *world) apply(t *testing.T, file string, values map[string]string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	text := os.Expand(string(raw), func(name string) string {
		switch name {
		case "NAMESPACE":
			return namespace
		case "TAG":
			return w.tag
		}
		value, ok := values[name]
		require.True(t, ok, "%s uses ${%s}, which the test does not set", file, name)
		return value
	})
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var object unstructured.Unstructured
		err := decoder.Decode(&object)
		if err == io.EOF { //nolint:errorlint // the decoder returns it bare
			return
		}
		require.NoError(t, err, file)
		if len(object.Object) == 0 {
			continue
		}
		require.NoError(t, w.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(&object),
			client.FieldOwner("e2e"), client.ForceOwnership), "%s %s", object.GetKind(), object.GetName())
	}
}

// resolve asks the development PDS, through its Service, for the DID of a handle.
func (w *world) resolve(t *testing.T, handle string) string {
	t.Helper()
	var service corev1.Service
	require.NoError(t, w.Get(t.Context(), key("devnet"), &service))
	ask := fmt.Sprintf("http://%s:2583/xrpc/com.atproto.identity.resolveHandle?handle=%s", service.Spec.ClusterIP, url.QueryEscape(handle))
	var answer struct{ DID string }
	eventually(t, "devnet answers for "+handle, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, ask, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		return json.NewDecoder(response.Body).Decode(&answer)
	})
	require.True(t, strings.HasPrefix(answer.DID, "did:plc:"), answer.DID)
	return answer.DID
}

func (w *world) waitDeployment(t *testing.T, name string) {
	t.Helper()
	eventually(t, "Deployment "+name+" is available", func(ctx context.Context) error {
		d, err := w.pods.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.ObservedGeneration < d.Generation || d.Status.AvailableReplicas < 1 || d.Status.UnavailableReplicas > 0 {
			return fmt.Errorf("%d available, %d unavailable", d.Status.AvailableReplicas, d.Status.UnavailableReplicas)
		}
		return nil
	})
}

// waitReady waits until the condition Ready of this generation is True, as `kubectl wait --for=condition=Ready` does.
func (w *world) waitReady(t *testing.T, object client.Object, conditions func() (observed int64, all []metav1.Condition)) {
	t.Helper()
	name := object.GetName()
	eventually(t, fmt.Sprintf("%T %s is Ready", object, name), func(ctx context.Context) error {
		if err := w.Get(ctx, key(name), object); err != nil {
			return err
		}
		observed, all := conditions()
		ready := meta.FindStatusCondition(all, "Ready")
		if ready == nil || ready.Status != metav1.ConditionTrue || observed != object.GetGeneration() {
			return fmt.Errorf("generation %d of %d, Ready is %+v", observed, object.GetGeneration(), ready)
		}
		return nil
	})
}

func (w *world) waitAppView(t *testing.T, name string) *operatorv1alpha1.AppView {
	t.Helper()
	a := &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: name}}
	w.waitReady(t, a, func() (int64, []metav1.Condition) { return a.Status.ObservedGeneration, a.Status.Conditions })
	return a
}

func (w *world) waitHoldLink(t *testing.T, name string) *operatorv1alpha1.HoldLink {
	t.Helper()
	l := &operatorv1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: name}}
	w.waitReady(t, l, func() (int64, []metav1.Condition) { return l.Status.ObservedGeneration, l.Status.Conditions })
	return l
}

// waitAnswers waits until a registry can be reached: kube-proxy follows a Service's endpoints with a delay.
func (w *world) waitAnswers(t *testing.T, address string) {
	t.Helper()
	eventually(t, "registry at "+address+" answers", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v2/", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("status %d, want 401", response.StatusCode)
		}
		return nil
	})
}

// pod starts a pod from an image that the node must pull.
func (w *world) pod(t *testing.T, name, image string, pullSecrets ...string) {
	t.Helper()
	w.podIn(t, namespace, name, image, pullSecrets...)
}

func (w *world) podIn(t *testing.T, namespace, name, image string, pullSecrets ...string) {
	t.Helper()
	yes, no, user := true, false, int64(65532)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.PodSpec{
			RestartPolicy:   corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: "hello", Image: image, ImagePullPolicy: corev1.PullAlways,
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			}},
		},
	}
	for _, s := range pullSecrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	eventually(t, "pod "+name+" is admitted", func(ctx context.Context) error { return w.Create(ctx, pod) })
	t.Cleanup(func() { _ = w.Delete(context.Background(), pod, client.GracePeriodSeconds(0)) })
}

// waitOutput waits until the pod runs and has said something, and returns it.
func (w *world) waitOutput(t *testing.T, name string) string {
	t.Helper()
	return w.waitOutputIn(t, namespace, name)
}

func (w *world) waitOutputIn(t *testing.T, namespace, name string) string {
	t.Helper()
	var said string
	eventually(t, "pod "+name+" runs", func(ctx context.Context) error {
		pod, err := w.pods.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if pod.Status.Phase != corev1.PodRunning && pod.Status.Phase != corev1.PodSucceeded {
			return fmt.Errorf("pod is %s: %s", pod.Status.Phase, waiting(pod))
		}
		log, err := w.pods.CoreV1().Pods(namespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(ctx)
		said = string(log)
		if err == nil && said == "" {
			err = fmt.Errorf("pod has said nothing yet")
		}
		return err
	})
	return said
}

// waitRefused waits until the kubelet reports that it could not pull the pod's image, and returns its words.
func (w *world) waitRefused(t *testing.T, name string) string {
	t.Helper()
	var message string
	eventually(t, "the pull of pod "+name+" is refused", func(ctx context.Context) error {
		events, err := w.pods.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=Failed"})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if strings.Contains(e.Message, "Failed to pull image") {
				message = e.Message
				return nil
			}
		}
		return fmt.Errorf("no such event yet")
	})
	return message
}

func waiting(pod *corev1.Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Waiting != nil {
			return s.State.Waiting.Reason + ": " + s.State.Waiting.Message
		}
	}
	return "no container status"
}

// gone reports whether an object does not exist any more.
func (w *world) gone(t *testing.T, object client.Object, name string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%T %s is gone", object, name), func(ctx context.Context) error {
		err := w.Get(ctx, key(name), object)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is still there")
		}
		return err
	})
}

// describe prints what a person would look at first.
func (w *world) describe(t *testing.T) {
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	pods, _ := w.pods.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if pods != nil {
		for i := range pods.Items {
			p := &pods.Items[i]
			fmt.Fprintf(&out, "%s/%s %s %s\n", p.Namespace, p.Name, p.Status.Phase, waiting(p))
			if p.Namespace != namespace && p.Namespace != "atcr-system" {
				continue
			}
			lines := int64(30)
			log, _ := w.pods.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
			fmt.Fprintf(&out, "%s\n", log)
		}
	}
	var views operatorv1alpha1.AppViewList
	_ = w.List(ctx, &views)
	for _, v := range views.Items {
		status, _ := json.MarshalIndent(v.Status, "", " ")
		fmt.Fprintf(&out, "AppView %s: %s\n", v.Name, status)
	}
	var links operatorv1alpha1.HoldLinkList
	_ = w.List(ctx, &links)
	for _, l := range links.Items {
		status, _ := json.MarshalIndent(l.Status, "", " ")
		fmt.Fprintf(&out, "HoldLink %s: %s\n", l.Name, status)
	}
	t.Log(out.String())
}

func key(name string) client.ObjectKey { return client.ObjectKey{Namespace: namespace, Name: name} }

// eventually asks until there is no error, or fails with the last one.
func eventually(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = ask(ctx); last == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s until %s: %v", patience, what, last)
		case <-tick.C:
		}
	}
}
