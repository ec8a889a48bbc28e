package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "atcr.io/operator/api/v1alpha1"
)

const (
	sealedRegistry = "sealed.e2e.test" // nodes are told by the operator's ConfigMap only
	consenting     = namespace + "-team"
)

// pullByNodeConfig has a node pull over HTTPS from the Service's cluster IP, by the hosts.toml and the CA of the ConfigMap
// that the operator writes, with the pull secret that it copies: a pod in another namespace, which names neither, runs
// from a private image.
func (w *world) pullByNodeConfig(t *testing.T, archive string) {
	t.Helper()
	if os.Getenv("ATCR_CLUSTER_DIR") == "" {
		t.Skip("nodes of an existing cluster are not ours to configure")
	}
	w.createPullSecret(t, "sealed", sealedRegistry, "bob.test")
	team := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: consenting, Labels: map[string]string{"operator.atcr.io/pull-secrets-from": namespace}}}
	require.NoError(t, w.Create(t.Context(), team))
	t.Cleanup(func() { _ = w.Delete(context.Background(), team) })

	a := &operatorv1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "sealed", Namespace: namespace}, Spec: operatorv1alpha1.AppViewSpec{
		BaseURL:  "https://" + sealedRegistry,
		Exposure: operatorv1alpha1.Exposure{TLS: &operatorv1alpha1.TLS{SecretRef: &operatorv1alpha1.LocalReference{Name: "sealed-tls"}}},
		ClusterPull: &operatorv1alpha1.ClusterPull{PullSecrets: &operatorv1alpha1.PullSecrets{
			SourceSecretRef: operatorv1alpha1.LocalReference{Name: "sealed"}}},
		DeletionPolicy: operatorv1alpha1.DeletionPolicy{Data: operatorv1alpha1.Delete, Keys: operatorv1alpha1.Delete},

		Network:  operatorv1alpha1.Network{AllowedPrivateCIDRs: []operatorv1alpha1.CIDR{"10.0.0.0/8"}},
		Identity: operatorv1alpha1.Identity{PLCURL: operatorv1alpha1.Origin(devnetURL), HandleResolverURL: operatorv1alpha1.Origin(devnetURL)},
	}}
	require.NoError(t, w.Create(t.Context(), a))
	w.linkHold(t, "safe-sealed", "safe", "sealed")

	// The Service has its address before there is a certificate, which is for that address.
	var address string
	eventually(t, "the Service has an address", func(ctx context.Context) error {
		var s corev1.Service
		if err := w.Get(ctx, key("sealed"), &s); err != nil {
			return err
		}
		address = s.Spec.ClusterIP
		return nil
	})
	certificate, trust := serverCertificate(t, address)
	require.NoError(t, w.Create(t.Context(), certificate))
	w.waitAppView(t, "sealed")
	eventually(t, "ClusterPullReady is True", func(ctx context.Context) error {
		if err := w.Get(ctx, key("sealed"), a); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(a.Status.Conditions, "ClusterPullReady"); c == nil || c.Status != metav1.ConditionTrue {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})

	image := imageOf(t, archive)
	extra, err := random.Layer(64<<10, types.OCILayer)
	require.NoError(t, err)
	image, err = mutate.AppendLayers(image, extra)
	require.NoError(t, err)
	ref, err := name.ParseReference(net.JoinHostPort(address, "5000") + "/bob.test/sealed:v1")
	require.NoError(t, err)
	client := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}}
	eventually(t, "push over HTTPS", func(ctx context.Context) error {
		return remote.Write(ref, image, remote.WithContext(ctx), remote.WithTransport(client),
			remote.WithAuth(&authn.Basic{Username: "bob.test", Password: appPassword}))
	})

	var files corev1.ConfigMap
	require.NoError(t, w.Get(t.Context(), key(a.Status.NodeConfigMap), &files))
	folder := t.TempDir()
	for entry, file := range map[string]string{sealedRegistry + ".hosts.toml": "hosts.toml", "ca.crt": "ca.crt"} {
		require.NotEmpty(t, files.Data[entry], entry)
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), []byte(files.Data[entry]), 0o644))
	}
	out, err := exec.CommandContext(t.Context(), "../../hack/cluster/cluster.sh", "hosts", sealedRegistry, folder).CombinedOutput()
	require.NoError(t, err, "%s", out)

	eventually(t, "the service account of the other namespace lists the copy", func(ctx context.Context) error {
		account, err := w.pods.CoreV1().ServiceAccounts(consenting).Get(ctx, "default", metav1.GetOptions{})
		if err == nil && len(account.ImagePullSecrets) != 1 {
			err = fmt.Errorf("it lists %v", account.ImagePullSecrets)
		}
		return err
	})
	w.podIn(t, consenting, "teammate", sealedRegistry+"/bob.test/sealed:v1")
	require.Contains(t, w.waitOutputIn(t, consenting, "teammate"), "hello")

	require.NoError(t, w.Delete(t.Context(), a))
	eventually(t, "the copy goes with its AppView", func(ctx context.Context) error {
		secrets, err := w.pods.CoreV1().Secrets(consenting).List(ctx, metav1.ListOptions{})
		if err == nil && len(secrets.Items) > 0 {
			err = fmt.Errorf("%d Secrets are left", len(secrets.Items))
		}
		return err
	})
}

// serverCertificate is a Secret with a certificate for an address, which is its own CA.
func serverCertificate(t *testing.T, address string) (*corev1.Secret, *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{sealedRegistry}, IPAddresses: []net.IP{net.ParseIP(address)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	trust := x509.NewCertPool()
	require.True(t, trust.AppendCertsFromPEM(crt))
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "sealed-tls", Namespace: namespace, Labels: map[string]string{"operator.atcr.io/watch": "true"}},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			"tls.crt": crt, "ca.crt": crt, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		},
	}, trust
}
