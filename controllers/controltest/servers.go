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

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/manager"
)

// Servers stand in for what runs in the pods: they answer which keys they have, by the address of their pod.
type Servers struct {
	mu    sync.Mutex
	ready map[string]names.Ready
}

// Asked makes the operator ask s.
func (s *Servers) Asked() Option {
	return func(_ *rest.Config, o *manager.Options) { o.Readiness = s }
}

// Ready implements appview.Readiness.
func (s *Servers) Ready(_ context.Context, podIP string) (names.Ready, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.ready[podIP]
	if !ok {
		return r, errors.New("no connection")
	}
	return r, nil
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
