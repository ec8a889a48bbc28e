package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
)

// environ is a configuration in a directory of its own, with changes.
func environ(dir string, more ...string) []string {
	return append([]string{
		names.DefaultHoldDID + "=did:web:127.0.0.1:8080", names.AuthKeyPath + "=" + filepath.Join(dir, "auth", names.FileSigningKey),
		names.AuthCertPath + "=" + filepath.Join(dir, "auth", names.FileSigningCert), names.SealingKeyPath + "=" + filepath.Join(dir, "auth", names.FileSealingKey),
		names.UIDatabasePath + "=" + filepath.Join(dir, "ui.db"),
	}, more...)
}

func TestCheckSaysWhatIsInForceAndWhereItIsFrom(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	require.NoError(t, check(&out, environ(dir, names.LogLevel+"=debug", names.DatabaseURL+"=postgres://u:s3cret@db/atcr", "TEST_MODE=true", "ATCR_BASEURL=x")))
	for _, line := range []string{
		names.LogLevel + " debug environment", names.LogFormatter + " text default", names.BaseURL + " http://127.0.0.1:5000 derived",
		names.ServiceName + " 127.0.0.1 derived", names.DatabaseURL + " (set) environment", names.RuntimeFile + " unset",
		"warning: ATCR_BASEURL is not a variable", "warning: TEST_MODE=true", "token keys: one will be made", "The configuration is valid.",
	} {
		require.Contains(t, strings.Join(strings.Fields(out.String()), " "), line)
	}
	require.NotContains(t, out.String(), "s3cret")
	for _, v := range names.AppView {
		require.Contains(t, out.String(), v.Name)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "it makes nothing")
}

func TestCheckListsEveryMistakeAtOnce(t *testing.T) {
	var out bytes.Buffer
	err := check(&out, environ(t.TempDir(), names.LogLevel+"=loud", names.TokenExpiration+"=5m", names.HandleResolverURL+"=https://u:s3cret@h"))
	require.ErrorContains(t, err, names.LogLevel)
	require.ErrorContains(t, err, names.TokenExpiration)
	require.ErrorContains(t, err, names.HandleResolverURL)
	require.NotContains(t, err.Error()+out.String(), "s3cret")

	dir := t.TempDir()
	for name, content := range map[string]string{"key.pem": "no key", "sealing.key": "c2hvcnQ=", "runtime.json": "{"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	err = check(&out, environ(dir, names.AuthKeyPath+"="+filepath.Join(dir, "key.pem"), names.SealingKeyPath+"="+filepath.Join(dir, "sealing.key"),
		names.RuntimeFile+"="+filepath.Join(dir, "runtime.json"), names.UIDatabasePath+"="+filepath.Join(dir, "key.pem", "ui.db")))
	require.ErrorContains(t, err, names.AuthKeyPath)
	require.ErrorContains(t, err, names.SealingKeyPath)
	require.ErrorContains(t, err, names.RuntimeFile)
	require.ErrorContains(t, err, names.UIDatabasePath)

	err = check(&out, environ(t.TempDir(), names.AuthKeyRequired+"=true"))
	require.ErrorContains(t, err, names.AuthKeyPath)
	require.ErrorContains(t, err, names.SealingKeyPath, "a replica makes no key of its own")
}

func TestTheCommandsDescribeThemselves(t *testing.T) {
	run := func(args ...string) (string, error) {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := run("--version")
	require.NoError(t, err)
	require.Regexp(t, `^atcr-appview version dev.*, go1\.`, out)
	for _, args := range [][]string{{"--help"}, {"config", "list"}} {
		out, err = run(args...)
		require.NoError(t, err)
		for _, v := range names.AppView {
			require.Contains(t, out, v.Name)
		}
	}
	out, err = run("--help")
	require.NoError(t, err)
	require.Contains(t, out, "OTEL_EXPORTER_OTLP_ENDPOINT")
	_, err = run("config", "chekc")
	require.Error(t, err)
	_, err = run("server")
	require.Error(t, err)
}
