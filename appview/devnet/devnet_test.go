package devnet_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/devnet/devnettest"
)

func start(t *testing.T, cfg devnet.Config) *devnet.Net {
	t.Helper()
	if cfg.Accounts == nil {
		cfg.Accounts = []devnet.Account{{Handle: "alice.test"}, {Handle: "bob.test"}}
	}
	n, err := devnet.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// The same suite runs against the reference PDS when PDS_CONTRACT_URL, PDS_CONTRACT_PLC_URL, PDS_CONTRACT_HANDLE and
// PDS_CONTRACT_PASSWORD name one.
func TestContract(t *testing.T) {
	n := start(t, devnet.Config{})
	alice := n.Account("alice.test")
	devnettest.Contract(t, devnettest.Target{URL: n.URL(), PLCURL: n.URL(), Handle: "alice.test", Password: alice.Password})
}

func TestContractOfTheReferencePDS(t *testing.T) {
	url := os.Getenv("PDS_CONTRACT_URL")
	if url == "" {
		t.Skip("PDS_CONTRACT_URL names no PDS to compare with")
	}
	devnettest.Contract(t, devnettest.Target{
		URL: url, PLCURL: os.Getenv("PDS_CONTRACT_PLC_URL"), Handle: os.Getenv("PDS_CONTRACT_HANDLE"), Password: os.Getenv("PDS_CONTRACT_PASSWORD"),
	})
}

func TestItRefusesToBeReachedByOthers(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
		_, err := devnet.Start(t.Context(), devnet.Config{Addr: addr})
		require.ErrorIs(t, err, devnet.ErrNotLoopback, addr)
	}
	n, err := devnet.Start(t.Context(), devnet.Config{Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	require.NoError(t, n.Close())
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	n, err = devnet.Start(t.Context(), devnet.Config{Addr: "0.0.0.0:0"})
	require.NoError(t, err, "a pod has no other address")
	require.NoError(t, n.Close())
}
