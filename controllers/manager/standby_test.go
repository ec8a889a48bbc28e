package manager_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
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
