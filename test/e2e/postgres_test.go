package e2e

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/appview/store/storetest"
)

// onThisMachine says whether the node's address is one of where the tests run, as with the local node.
func (w *world) onThisMachine(t *testing.T) bool {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().String() == w.nodeIP {
			return true
		}
	}
	return false
}

// startPostgres starts a PostgreSQL on the node's address, with Service and Secret postgres that lead to it. Everything
// ends with the test.
func (w *world) startPostgres(t *testing.T) {
	t.Helper()
	cluster := storetest.StartPostgresAt(t, w.nodeIP)
	database, err := url.Parse(cluster.Database(t))
	require.NoError(t, err)
	meta := metav1.ObjectMeta{Name: "postgres", Namespace: namespace}
	require.NoError(t, w.Create(t.Context(), &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Ports: []corev1.ServicePort{{Name: "postgres", Port: 5432}}, // no selector: the slice below is what it leads to
	}}))
	slice := meta
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
	require.NoError(t, w.Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta: slice, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{w.nodeIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports:     []discoveryv1.EndpointPort{{Name: new("postgres"), Port: new(int32(cluster.Port()))}},
	}))
	require.NoError(t, w.Create(t.Context(), &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{
		"host": "postgres." + namespace + ".svc.cluster.local", "port": "5432",
		"dbname": strings.TrimPrefix(database.Path, "/"), "username": database.User.Username(), "password": cluster.Password(),
	}}))
}
