package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
)

func TestCheckOfAHoldSaysWhatIsInForceAndAllThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	good := []string{names.HoldPublicURL + "=https://hold.example.com", names.HoldOwner + "=did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		names.HoldDatabaseDir + "=" + filepath.Join(dir, "db"), names.S3Bucket + "=blobs", names.AWSAccessKeyID + "=AKIAsecret", names.AWSSecretAccessKey + "=s3cret"}
	var out bytes.Buffer
	require.NoError(t, check(&out, good))
	flat := strings.Join(strings.Fields(out.String()), " ")
	for _, line := range []string{names.AWSSecretAccessKey + " (set) environment", names.AWSRegion + " us-east-1 default", names.S3Bucket + " blobs environment", "The configuration is valid."} {
		require.Contains(t, flat, line)
	}
	require.NotContains(t, out.String(), "ecret\n")
	require.NotContains(t, out.String(), "s3cret")
	require.NotContains(t, out.String(), "AKIA")
	require.NoDirExists(t, filepath.Join(dir, "db"))

	err := check(&out, append(good, names.HoldOwner+"=alice.test", names.StorageDriver+"=tape", "OTEL_TRACES_EXPORTER=zipkin"))
	require.ErrorContains(t, err, names.HoldOwner)
	require.ErrorContains(t, err, names.StorageDriver)
	require.ErrorContains(t, err, "OTEL_TRACES_EXPORTER")

	err = check(&out, append(good, names.HoldDatabaseDir+"=/proc/1/nothing"))
	require.ErrorContains(t, err, names.HoldDatabaseDir)
}

func TestTheHoldDescribesItself(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"--help"}, {"config", "list"}} {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs(args)
		require.NoError(t, cmd.ExecuteContext(t.Context()))
		if args[0] == "--version" {
			require.Regexp(t, `^atcr-hold version dev.*, go1\.`, out.String())
			continue
		}
		for _, v := range names.HoldVariables {
			require.Contains(t, out.String(), v.Name)
		}
	}
}
