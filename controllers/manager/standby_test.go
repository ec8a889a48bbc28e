package manager_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/manager"
)

// seen closes its channel at the first request that selects by a label.
type seen struct {
	label string
	asked chan struct{}
	once  sync.Once
}

func (s *seen) option(cfg *rest.Config, _ *manager.Options) {
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Query().Get("labelSelector"), s.label) {
				s.once.Do(func() { close(s.asked) })
			}
			return next.RoundTrip(r)
		})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A cache that a standby does not start makes its warm-up fail after two minutes, and the process with it.
func TestAStandbyHasEveryCacheWarmAndTakesOver(t *testing.T) {
	e := controltest.New(t)
	holder, seconds, now := "another", int32(3600), metav1.NowMicro()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: manager.LeaderElectionID}}
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now}
	e.Create(lease)
	users := &seen{label: v1alpha1.LabelWatch, asked: make(chan struct{})}
	standby := e.Operator(users.option, func(_ *rest.Config, o *manager.Options) {
		o.LeaderElect, o.LeaderElectionNamespace = true, e.Namespace
	})
	e.Kubelet()
	e.Create(&v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}, Spec: v1alpha1.AppViewSpec{
		DefaultHold: &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"},
	}})
	select {
	case <-users.asked:
	case <-time.After(time.Minute):
		require.Fail(t, "the cache of users' Secrets does not start on a standby")
	}
	select {
	case <-standby.Elected():
		require.Fail(t, "it leads beside the holder of the lease")
	default:
	}

	controltest.Update(e, lease, func(l *coordinationv1.Lease) { l.Spec = coordinationv1.LeaseSpec{} })
	e.AppView("registry", "Ready=True")
}

// writes are those of an operator about objects other than its lease.
func writes(c *controltest.Counter) (out []string) {
	for _, w := range c.Writes() {
		if !strings.Contains(w, "/leases") {
			out = append(out, w)
		}
	}
	return out
}

// The leader ends in the middle of its work, and the standby takes the lease over.
func TestAnotherLeaderGoesOnWhereTheFirstOneStopped(t *testing.T) {
	e := controltest.New(t)
	leads := func(_ *rest.Config, o *manager.Options) { o.LeaderElect, o.LeaderElectionNamespace = true, e.Namespace }
	var of [2]controltest.Counter
	first := e.Operator(leads, controltest.Counted(&of[0]))
	<-first.Elected()
	second := e.Operator(leads, controltest.Counted(&of[1]))
	e.Kubelet()
	const registries = 8
	name := func(i int) string { return fmt.Sprint("registry-", i) }
	for i := range registries {
		av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: name(i)}}
		av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"}
		e.Create(av)
	}
	e.Until("the first leader is at work", func() bool { return len(writes(&of[0])) >= 2*registries })
	require.Empty(t, writes(&of[1]), "one at a time")
	first.Stop()
	until := len(writes(&of[0]))
	<-second.Elected()
	for i := range registries {
		av := e.AppView(name(i), "Ready=True", "KeysReady=True/Generated")
		s := &corev1.Secret{}
		e.Get(name(i)+"-signing", s)
		set, err := keyset.Parse(s.Data)
		require.NoError(t, err)
		require.Equal(t, set.Current.Kid, av.Status.Keys.Signing.Current.Kid)
		require.LessOrEqual(t, e.Told(name(i), "KeyGenerated"), 1)
		require.Zero(t, e.Told(name(i), "KeyReplaced"))
	}
	require.Len(t, writes(&of[0]), until, "the first one writes nothing any more")
	var secrets corev1.SecretList
	require.NoError(t, e.Client.List(t.Context(), &secrets, client.InNamespace(e.Namespace)))
	require.Len(t, secrets.Items, 5*registries)
}
