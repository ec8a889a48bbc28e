package peers_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/devnet/devnettest"
	"atcr.io/operator/test/peers/referencepds"
)

func TestTheReferencePDSKeepsTheContractOfDevnet(t *testing.T) {
	pds := referencepds.Start(t, referencepds.Options{})
	alice := pds.Account(t, "alice.test")
	devnettest.Contract(t, devnettest.Target{URL: pds.URL, PLCURL: pds.PLCURL, Handle: alice.Handle, Password: alice.Password})
}

func TestDevnetKeepsTheContract(t *testing.T) {
	dev, err := devnet.Start(t.Context(), devnet.Config{Accounts: []devnet.Account{{Handle: "alice.test"}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	alice := dev.Account("alice.test")
	devnettest.Contract(t, devnettest.Target{URL: dev.URL(), PLCURL: dev.URL(), Handle: "alice.test", Password: alice.Password})
}
