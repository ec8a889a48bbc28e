package server_test

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
)

// A hold with a certificate of a private CA is reached once the runtime file has the CA, without a restart; and only that
// hold is believed by it.
func TestAHoldWithACertificateOfAPrivateCA(t *testing.T) {
	dir := t.TempDir()
	w := servertest.Start(t, servertest.Options{Dir: dir, Proxy: true})
	to, err := url.Parse(w.HoldURL)
	require.NoError(t, err)
	secure := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = to.Host }})
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the client's refusal is the point
	secure.StartTLS()
	t.Cleanup(secure.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))

	write := func(hold names.Hold, bundles map[string]string) {
		t.Helper()
		hold.DID, hold.Endpoint, hold.Download = string(w.HoldDID()), secure.URL, names.Proxy
		raw, err := json.Marshal(names.Runtime{Version: names.RuntimeVersion, Holds: []names.Hold{hold}, CABundles: bundles})
		require.NoError(t, err)
		path := filepath.Join(dir, names.FileRuntime)
		require.NoError(t, os.WriteFile(path+".new", raw, 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	push := func() error {
		img, err := random.Image(100, 1)
		require.NoError(t, err)
		return crane.Push(img, w.Host()+"/"+app+":v1", crane.WithAuth(w.Auth(servertest.Alice)))
	}
	require.NoError(t, push())
	write(names.Hold{}, nil)
	require.Eventually(t, func() bool { return push() != nil }, 60*time.Second, 50*time.Millisecond, "nobody vouches for it")
	write(names.Hold{CABundle: "mine"}, map[string]string{"mine": ca})
	require.Eventually(t, func() bool { return push() == nil }, 60*time.Second, 50*time.Millisecond, "the CA does")
	_, err = crane.Pull(w.Host() + "/" + app + ":v1")
	require.NoError(t, err)
	write(names.Hold{}, map[string]string{"another's": ca})
	require.Eventually(t, func() bool { return push() != nil }, 60*time.Second, 50*time.Millisecond, "the CA of another hold does not")
}
