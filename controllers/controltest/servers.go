package controltest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/manager"
)

// Servers stand in for what runs in the pods: they answer what they have loaded, by the address of their pod. They run
// with the newest runtime file, unless an answer names another.
type Servers struct {
	mu    sync.Mutex
	ready map[string]names.Ready
	pods  client.Reader // of namespace
	in    string
}

// Asked makes the operator ask s.
func (s *Servers) Asked() Option {
	return func(_ *rest.Config, o *manager.Options) {
		c, err := client.New(rest.CopyConfig(controlPlane.config), client.Options{})
		if err != nil {
			panic(err) // nothing in it can fail
		}
		o.Readiness = s
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pods = c; len(o.Namespaces) == 1 {
			s.in = o.Namespaces[0]
		}
	}
}

// Ready implements appview.Readiness.
func (s *Servers) Ready(ctx context.Context, podIP string) (names.Ready, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.ready[podIP]
	if !ok {
		return r, errors.New("no connection")
	}
	if r.RuntimeHash == "" {
		hash, err := s.newest(ctx, podIP)
		if err != nil {
			return r, err
		}
		r.RuntimeHash = hash
	}
	return r, nil
}

// newest is the hash of the runtime file as the API server has it for the pod at podIP.
func (s *Servers) newest(ctx context.Context, podIP string) (string, error) {
	var pods corev1.PodList
	if err := s.pods.List(ctx, &pods, client.InNamespace(s.in)); err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.Status.PodIP != podIP {
			continue
		}
		file := &corev1.ConfigMap{}
		key := client.ObjectKey{Namespace: p.Namespace, Name: p.Labels[v1alpha1.LabelAppView] + "-runtime"}
		if err := s.pods.Get(ctx, key, file); err != nil {
			return "", err
		}
		return names.RuntimeHash([]byte(file.Data[names.FileRuntime])), nil
	}
	return "", fmt.Errorf("no pod at %s", podIP)
}

// Load makes the server at podIP load what is in the signing Secret.
func (s *Servers) Load(e *Env, appView, podIP string) {
	e.Helper()
	secret := &corev1.Secret{}
	e.Get(appView+"-signing", secret)
	set, err := keyset.Parse(secret.Data)
	require.NoError(e, err)
	s.Has(podIP, set)
}

// Has makes the server at podIP have a set.
func (s *Servers) Has(podIP string, set *keyset.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready == nil {
		s.ready = map[string]names.Ready{}
	}
	s.ready[podIP] = names.Ready{Status: "ok", KeySetHash: set.Hash(), SigningKey: set.Current.Kid}
}

// Answer makes the server at podIP answer that.
func (s *Servers) Answer(podIP string, ready names.Ready) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready == nil {
		s.ready = map[string]names.Ready{}
	}
	s.ready[podIP] = ready
}

// Serving makes a pod of the AppView that is ready at podIP.
func (e *Env) Serving(d *appsv1.Deployment, podIP string) *corev1.Pod {
	e.Helper()
	p := &corev1.Pod{}
	p.Namespace, p.GenerateName = e.Namespace, d.Name+"-"
	p.Labels = d.Spec.Template.Labels
	p.Spec = corev1.PodSpec{Containers: []corev1.Container{{Name: "appview", Image: d.Spec.Template.Spec.Containers[0].Image}}}
	require.NoError(e, e.Client.Create(e.Context(), p))
	p.Status.Phase, p.Status.PodIP = corev1.PodRunning, podIP
	p.Status.PodIPs = []corev1.PodIP{{IP: podIP}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	require.NoError(e, e.Client.Status().Update(e.Context(), p))
	return p
}

// Annotate sets an annotation.
func Annotate[T client.Object](e *Env, o T, key, value string) {
	e.Helper()
	Update(e, o, func(o T) {
		a := o.GetAnnotations()
		if a == nil {
			a = map[string]string{}
		}
		a[key] = value
		o.SetAnnotations(a)
	})
}

// Until waits until check says nothing.
func (e *Env) Until(what string, check func() bool) {
	e.Helper()
	e.Eventually(what, func() error {
		if !check() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}
