package main

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
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
	file := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		}
	}
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
	const below = "/file/below" // a path below a file cannot be made
	for name, c := range map[string]struct {
		prepare func(*testing.T, string)
		set     map[string]string // "DIR" is the test's directory
		says    string            // nothing: the server starts
	}{
		"nothing is there yet":                     {},
		"it has run before":                        {prepare: served},
		"a database whose first start was cut off": {prepare: file("ui.db", "")},
		"no database":                              {set: map[string]string{names.UIEnabled: "false", names.UIDatabasePath: "DIR" + below}},
		"a backup directory that cannot be made":   {set: map[string]string{names.BackupDir: "DIR" + below}},
		"no certificate for HTTPS":                 {set: map[string]string{names.TLSCertPath: "DIR/tls.crt", names.TLSKeyPath: "DIR/tls.key"}, says: "tls.crt"},
		"a broken OAuth key":                       {prepare: file("client.key", "key"), set: map[string]string{names.OAuthKeyPath: "DIR/client.key"}, says: "client.key"},
		"a broken key of its DID":                  {prepare: file("did.key", "key"), set: map[string]string{names.DIDKeyPath: "DIR/did.key"}, says: names.DIDKeyPath},
		"no place for a key of its DID":            {set: map[string]string{names.DIDKeyPath: "DIR" + below}, says: names.DIDKeyPath},
		"no key of its DID, which must be":         {prepare: served, set: map[string]string{names.DIDKeyPath: "DIR/none", names.AuthKeyRequired: "true"}, says: names.DIDKeyPath},
		"no place for the signing key":             {set: map[string]string{names.AuthKeyPath: "DIR" + below}, says: names.AuthKeyPath},
		"no place for its certificate":             {prepare: served, set: map[string]string{names.AuthCertPath: "DIR" + below}, says: names.AuthCertPath},
		"half a certificate bundle": {prepare: func(t *testing.T, dir string) {
			served(t, dir)
			file("auth/"+names.FileSigningCert, "-----BEGIN C")(t, dir)
		}, says: names.AuthCertPath},
		"no place for the sealing key":                 {set: map[string]string{names.SealingKeyPath: "DIR" + below}, says: names.SealingKeyPath},
		"a broken sealing key":                         {prepare: file("auth/"+names.FileSealingKey, "key"), says: names.SealingKeyPath},
		"no place for the database":                    {set: map[string]string{names.UIDatabasePath: "DIR" + below}, says: "file"},
		"a database that is none":                      {prepare: file("ui.db", "this is no database at all"), says: "ui.db"},
		"a database of a newer release":                {prepare: newer, says: "newer schema"},
		"it was killed":                                {prepare: killed(`UPDATE goose_db_version SET is_applied = 1`)},
		"a newer release that was killed":              {prepare: killed(newerSchema), says: "newer schema"},
		"a runtime file that is none":                  {prepare: file("runtime.json", "{"), set: map[string]string{names.RuntimeFile: "DIR/runtime.json"}, says: names.RuntimeFile},
		"no password of a PostgreSQL in its directory": {set: map[string]string{names.DatabaseDir: "DIR/none"}, says: names.DatabaseDir},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file("file", "")(t, dir)
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			var more []string
			for k, v := range c.set {
				more = append(more, k+"="+strings.Replace(v, "DIR", dir, 1))
			}
			before := listed(t, dir)
			var out bytes.Buffer
			checked := check(t.Context(), &out, environ(dir, more...))
			require.Equal(t, before, listed(t, dir), "check makes and changes nothing")
			started := open(t, dir, more...)
			if c.says == "" {
				require.NoError(t, started)
				require.NoError(t, checked)
				return
			}
			require.ErrorContains(t, started, c.says)
			require.ErrorContains(t, checked, c.says)
		})
	}
}

// listed are all files below a directory, and what is in them.
func listed(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var b []byte
			b, err = os.ReadFile(path)
			all[path] = string(b)
		} else {
			all[path] = ""
		}
		return err
	}))
	return all
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
