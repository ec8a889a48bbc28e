package rotation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server"
)

// service is the AppView's name in tokens; the replicas' addresses are none that they share.
const service = "registry.test"

// replica is one AppView server, with folders of its own for what the kubelet mounts.
type replica struct {
	podIP      string // the operator knows it by that
	dir        string
	url, debug string
	api, probe net.Listener
}

func (r *replica) signing() string { return filepath.Join(r.dir, "signing") }
func (r *replica) sealing() string { return filepath.Join(r.dir, "sealing") }
func (r *replica) oauth() string   { return filepath.Join(r.dir, "oauth") }
func (r *replica) did() string     { return filepath.Join(r.dir, "did") }

// newReplica listens; it serves after start.
func newReplica(t *testing.T, n int) *replica {
	t.Helper()
	r := &replica{podIP: fmt.Sprintf("10.1.1.%d", n+1), dir: t.TempDir()}
	var err error
	r.api, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.probe, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.url, r.debug = "http://"+r.api.Addr().String(), "http://"+r.probe.Addr().String()
	return r
}

// start starts the server on the world's environment, with the mounted files.
func (r *replica) start(t *testing.T, environ []string, hosts []string) {
	t.Helper()
	environ = append(environ,
		names.ServiceName+"="+service, names.BaseURL+"="+r.url, names.AllowedHosts+"="+strings.Join(hosts, ","),
		names.AuthKeyRequired+"=true", names.TokenExpiration+"="+fmt.Sprint(int(tokenLife.Seconds())),
		names.AuthKeyPath+"="+filepath.Join(r.signing(), names.FileSigningKey),
		names.AuthCertPath+"="+filepath.Join(r.signing(), names.FileSigningCert),
		names.SealingKeyPath+"="+filepath.Join(r.sealing(), names.FileSealingKey),
		names.OAuthKeyPath+"="+filepath.Join(r.oauth(), names.FileOAuthKey),
		names.DIDKeyPath+"="+filepath.Join(r.did(), names.FileDIDKey),
	)
	cfg, err := config.Load(environ)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ATCR_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := server.New(t.Context(), cfg, log.With("replica", r.podIP))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, r.api, r.probe) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-served)
		require.NoError(t, s.Close())
	})
}

// network is where the operator finds pods: it maps their addresses to the replicas'. It implements appview.Readiness.
type network map[string]*replica

// Ready implements appview.Readiness: it asks the real server.
func (n network) Ready(ctx context.Context, podIP string) (out names.Ready, err error) {
	r, ok := n[podIP]
	if !ok {
		return out, fmt.Errorf("no pod has address %s", podIP)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.debug+names.PathReady, nil)
	if err != nil {
		return out, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&out)
}
