package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/version"
)

func TestTheVersionIsPrinted(t *testing.T) {
	var out bytes.Buffer
	cmd := command()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--version"})
	require.NoError(t, cmd.ExecuteContext(t.Context()))
	require.Equal(t, "atcr-dev version "+version.String()+"\n", out.String())
}
