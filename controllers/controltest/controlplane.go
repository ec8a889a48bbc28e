package controltest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"atcr.io/operator/test/testenv"
)

// controlPlane is the API server of this test binary; config is nil when there is none, and why says so.
var controlPlane struct {
	config *rest.Config
	why    string
}

// Main starts etcd and the API server with our CRDs, runs the tests and stops them. Without KUBEBUILDER_ASSETS the tests
// that need them are skipped, and fail in CI. When all tests were asked for, together they must have waited for every
// condition of promises.
func Main(m *testing.M, promises ...Promise) int {
	ctrl.SetLogger(logr.Discard())
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		controlPlane.why = `KUBEBUILDER_ASSETS is not set: run KUBEBUILDER_ASSETS="$(hack/envtest-assets.sh)" go test ./controllers/...`
		return m.Run()
	}
	root, err := testenv.Root()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:        []string{filepath.Join(root, "config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		DownloadBinaryAssets:     false,
		AttachControlPlaneOutput: false,
	}
	// The default range is a /24: the 255th Service would fail.
	env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	cfg, err := env.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the control plane:", err)
		return 1
	}
	controlPlane.config = cfg
	code := m.Run()
	if code == 0 && all() {
		for _, p := range promises {
			if err := p.unseen(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if err := env.Stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
		return 1
	}
	return code
}

// all says whether go test was asked for every test.
func all() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return !testing.Short()
}

// Config of the API server. Without one the test is skipped, or fails in CI.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	_ = os.Getenv("KUBEBUILDER_ASSETS") // go test remembers results by the variables read while tests run, not in Main
	if controlPlane.config == nil {
		if strings.EqualFold(os.Getenv("CI"), "true") {
			t.Fatal(controlPlane.why)
		}
		t.Skip(controlPlane.why)
	}
	return rest.CopyConfig(controlPlane.config)
}
