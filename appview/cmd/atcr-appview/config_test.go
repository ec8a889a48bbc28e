package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/configtest"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server"
	"atcr.io/operator/appview/sqlitedb"
)

// environ is a configuration in a directory of its own, with changes.
func environ(dir string, more ...string) []string {
	return append([]string{
		names.DefaultHoldDID + "=did:web:127.0.0.1:8080", names.AuthKeyPath + "=" + filepath.Join(dir, "auth", names.FileSigningKey),
		names.AuthCertPath + "=" + filepath.Join(dir, "auth", names.FileSigningCert), names.SealingKeyPath + "=" + filepath.Join(dir, "auth", names.FileSealingKey),
		names.UIDatabasePath + "=" + filepath.Join(dir, "ui.db"), names.DIDKeyPath + "=" + filepath.Join(dir, "auth", names.FileDIDKey),
	}, more...)
}

func TestCheckSaysWhatIsInForceAndWhereItIsFrom(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	require.NoError(t, check(t.Context(), &out, environ(dir, names.LogLevel+"=debug", names.DatabaseURL+"=postgres://u:s3cret@db/atcr", "TEST_MODE=true", "ATCR_BASEURL=x")))
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
	err := check(t.Context(), &out, environ(t.TempDir(), names.LogLevel+"=loud", names.TokenExpiration+"=5m", names.HandleResolverURL+"=https://u:s3cret@h"))
	require.ErrorContains(t, err, names.LogLevel)
	require.ErrorContains(t, err, names.TokenExpiration)
	require.ErrorContains(t, err, names.HandleResolverURL)
	require.NotContains(t, err.Error()+out.String(), "s3cret")

	dir := t.TempDir()
	for name, content := range map[string]string{"key.pem": "no key", "sealing.key": "c2hvcnQ=", "runtime.json": "{"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	err = check(t.Context(), &out, environ(dir, names.AuthKeyPath+"="+filepath.Join(dir, "key.pem"), names.SealingKeyPath+"="+filepath.Join(dir, "sealing.key"),
		names.RuntimeFile+"="+filepath.Join(dir, "runtime.json"), names.UIDatabasePath+"="+filepath.Join(dir, "key.pem", "ui.db")))
	require.ErrorContains(t, err, names.AuthKeyPath)
	require.ErrorContains(t, err, names.SealingKeyPath)
	require.ErrorContains(t, err, names.RuntimeFile)
	require.ErrorContains(t, err, names.UIDatabasePath)

	err = check(t.Context(), &out, environ(t.TempDir(), names.AuthKeyRequired+"=true"))
	require.ErrorContains(t, err, names.AuthKeyPath)
	require.ErrorContains(t, err, names.SealingKeyPath, "a replica makes no key of its own")
}

func TestCheckAndServeAgree(t *testing.T) {
	open := func(t *testing.T, dir string, more ...string) error {
		t.Helper()
		cfg, err := config.Load(environ(dir, more...))
		require.NoError(t, err)
		s, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return s.Close()
	}
	served := func(t *testing.T, dir string) { require.NoError(t, open(t, dir)) }
	const newerSchema = `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)`
	newer := func(t *testing.T, dir string) {
		served(t, dir)
		db, err := sqlitedb.Open("file:" + filepath.Join(dir, "ui.db"))
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), newerSchema)
		require.NoError(t, errors.Join(err, db.Close()))
	}
	// killed leaves the files of a server as they are on disk while it runs.
	killed := func(statement string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			other := t.TempDir()
			cfg, err := config.Load(environ(other))
			require.NoError(t, err)
			s, err := server.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			db, err := sqlitedb.Open("file:" + filepath.Join(other, "ui.db"))
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), statement)
			require.NoError(t, err)
			require.NoError(t, os.CopyFS(dir, os.DirFS(other)))
			require.NoError(t, errors.Join(db.Close(), s.Close()))
			require.FileExists(t, filepath.Join(dir, "ui.db-wal"))
		}
	}
	configtest.Agree(t, environ, check, open, map[string]configtest.Case{
		"nothing is there yet":                     {},
		"it has run before":                        {Prepare: served},
		"a database whose first start was cut off": {Prepare: configtest.File("ui.db", "")},
		"no database":                              {Set: map[string]string{names.UIEnabled: "false", names.UIDatabasePath: "DIR" + configtest.Below}},
		"a backup directory that cannot be made":   {Set: map[string]string{names.BackupDir: "DIR" + configtest.Below}},
		"no certificate for HTTPS":                 {Set: map[string]string{names.TLSCertPath: "DIR/tls.crt", names.TLSKeyPath: "DIR/tls.key"}, Says: "tls.crt"},
		"a broken OAuth key":                       {Prepare: configtest.File("client.key", "key"), Set: map[string]string{names.OAuthKeyPath: "DIR/client.key"}, Says: "client.key"},
		"a broken key of its DID":                  {Prepare: configtest.File("did.key", "key"), Set: map[string]string{names.DIDKeyPath: "DIR/did.key"}, Says: names.DIDKeyPath},
		"no place for a key of its DID":            {Set: map[string]string{names.DIDKeyPath: "DIR" + configtest.Below}, Says: names.DIDKeyPath},
		"no key of its DID, which must be":         {Prepare: served, Set: map[string]string{names.DIDKeyPath: "DIR/none", names.AuthKeyRequired: "true"}, Says: names.DIDKeyPath},
		"no place for the signing key":             {Set: map[string]string{names.AuthKeyPath: "DIR" + configtest.Below}, Says: names.AuthKeyPath},
		"no place for its certificate":             {Prepare: served, Set: map[string]string{names.AuthCertPath: "DIR" + configtest.Below}, Says: names.AuthCertPath},
		"half a certificate bundle": {Prepare: func(t *testing.T, dir string) {
			served(t, dir)
			configtest.File("auth/"+names.FileSigningCert, "-----BEGIN C")(t, dir)
		}, Says: names.AuthCertPath},
		"no place for the sealing key":                 {Set: map[string]string{names.SealingKeyPath: "DIR" + configtest.Below}, Says: names.SealingKeyPath},
		"a broken sealing key":                         {Prepare: configtest.File("auth/"+names.FileSealingKey, "key"), Says: names.SealingKeyPath},
		"no place for the database":                    {Set: map[string]string{names.UIDatabasePath: "DIR" + configtest.Below}, Says: "file"},
		"a database that is none":                      {Prepare: configtest.File("ui.db", "this is no database at all"), Says: "ui.db"},
		"a database of a newer release":                {Prepare: newer, Says: "newer schema"},
		"it was killed":                                {Prepare: killed(`UPDATE goose_db_version SET is_applied = 1`)},
		"a newer release that was killed":              {Prepare: killed(newerSchema), Says: "newer schema"},
		"a runtime file that is none":                  {Prepare: configtest.File("runtime.json", "{"), Set: map[string]string{names.RuntimeFile: "DIR/runtime.json"}, Says: names.RuntimeFile},
		"no password of a PostgreSQL in its directory": {Set: map[string]string{names.DatabaseDir: "DIR/none"}, Says: names.DatabaseDir},
	})
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
