package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server"
	"atcr.io/operator/appview/server/servertest"
)

// writePair writes a certificate for 127.0.0.1, its key first, as the kubelet never would: for a moment the two files do
// not belong together.
func writePair(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for _, file := range []struct {
		name, kind string
		bytes      []byte
	}{
		{"tls.key", "PRIVATE KEY", private}, {"tls.crt", "CERTIFICATE", der},
	} {
		raw := pem.EncodeToMemory(&pem.Block{Type: file.kind, Bytes: file.bytes})
		require.NoError(t, os.WriteFile(filepath.Join(dir, file.name), raw, 0o600))
	}
}

func TestANewCertificateIsTakenOverWithoutDroppingARequest(t *testing.T) {
	t.Parallel()
	w := servertest.Start(t, servertest.Options{NoAppView: true})
	dir := t.TempDir()
	writePair(t, dir, 1)
	cfg, err := config.Load(append(w.Environ(), names.TLSCertPath+"="+filepath.Join(dir, "tls.crt"), names.TLSKeyPath+"="+filepath.Join(dir, "tls.key")))
	require.NoError(t, err)
	s, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener, nil) }()
	defer func() {
		stop()
		require.NoError(t, <-served)
		require.NoError(t, s.Close())
	}()

	var serial atomic.Int64 // of the newest connection
	get := func(c *http.Client) error {
		res, err := c.Get("https://" + listener.Addr().String() + "/v2/")
		if err != nil {
			return err
		}
		serial.Store(res.TLS.PeerCertificates[0].SerialNumber.Int64())
		_, err = io.Copy(io.Discard, res.Body)
		if res.StatusCode != http.StatusUnauthorized {
			err = errors.Join(err, fmt.Errorf("HTTP status %d", res.StatusCode))
		}
		return errors.Join(err, res.Body.Close())
	}
	client := func(keep bool) *http.Client {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: !keep, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // the serial number says which it is
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	fresh, kept := client(false), client(true)
	require.NoError(t, get(fresh))
	require.EqualValues(t, 1, serial.Load())
	require.NoError(t, get(kept))

	writePair(t, dir, 2)
	for serial.Store(1); serial.Load() != 2; {
		require.NoError(t, t.Context().Err())
		require.NoError(t, get(fresh), "no request is dropped meanwhile")
	}
	require.NoError(t, get(kept))
	require.EqualValues(t, 1, serial.Load(), "an open connection goes on")
}
