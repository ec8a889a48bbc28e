package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/configtest"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold"
)

func TestCheckOfAHoldSaysWhatIsInForceAndAllThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	good := []string{names.HoldPublicURL + "=https://hold.example.com", names.HoldOwner + "=did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		names.HoldDatabaseDir + "=" + filepath.Join(dir, "db"), names.S3Bucket + "=blobs", names.AWSAccessKeyID + "=AKIAsecret", names.AWSSecretAccessKey + "=s3cret"}
	var out bytes.Buffer
	require.NoError(t, check(t.Context(), &out, good))
	flat := strings.Join(strings.Fields(out.String()), " ")
	for _, line := range []string{names.AWSSecretAccessKey + " (set) environment", names.AWSRegion + " us-east-1 default", names.S3Bucket + " blobs environment", "The configuration is valid."} {
		require.Contains(t, flat, line)
	}
	require.NotContains(t, out.String(), "ecret\n")
	require.NotContains(t, out.String(), "s3cret")
	require.NotContains(t, out.String(), "AKIA")
	require.NoDirExists(t, filepath.Join(dir, "db"))

	err := check(t.Context(), &out, append(good, names.HoldOwner+"=alice.test", names.StorageDriver+"=tape", "OTEL_TRACES_EXPORTER=zipkin"))
	require.ErrorContains(t, err, names.HoldOwner)
	require.ErrorContains(t, err, names.StorageDriver)
	require.ErrorContains(t, err, "OTEL_TRACES_EXPORTER")

	err = check(t.Context(), &out, append(good, names.HoldDatabaseDir+"=/proc/1/nothing"))
	require.ErrorContains(t, err, names.HoldDatabaseDir)
}

func TestCheckAndServeOfAHoldAgree(t *testing.T) {
	environ := func(dir string, more ...string) []string {
		return append([]string{names.HoldPublicURL + "=http://127.0.0.1:8080", names.HoldOwner + "=did:plc:ewvi7nxzyoun6zhxrhs64oiz",
			names.HoldDatabaseDir + "=" + filepath.Join(dir, "db"), names.StorageDriver + "=filesystem", names.StorageRootDir + "=" + filepath.Join(dir, "blobs")}, more...)
	}
	open := func(t *testing.T, dir string, more ...string) error {
		t.Helper()
		cfg, err := hold.LoadFrom(env.ToMap(environ(dir, more...)))
		require.NoError(t, err)
		s, err := hold.New(t.Context(), cfg, hold.Deps{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		return s.Close(t.Context())
	}
	served := func(t *testing.T, dir string) { require.NoError(t, open(t, dir)) }
	killed := func(t *testing.T, dir string) {
		other := t.TempDir()
		cfg, err := hold.LoadFrom(env.ToMap(environ(other)))
		require.NoError(t, err)
		s, err := hold.New(t.Context(), cfg, hold.Deps{Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, os.CopyFS(dir, os.DirFS(other))) // as they are on disk while it runs
		require.NoError(t, s.Close(t.Context()))
		require.FileExists(t, filepath.Join(dir, "db", "pds", "pds.sqlite-wal"))
	}
	configtest.Agree(t, environ, check, open, map[string]configtest.Case{
		"nothing is there yet":               {},
		"it has run before":                  {Prepare: served},
		"a first start that was cut off":     {Prepare: configtest.File("db/pds/pds.sqlite", "")},
		"no place for its databases":         {Set: map[string]string{names.HoldDatabaseDir: "DIR" + configtest.Below}, Says: configtest.Below[:5]},
		"no place for blobs":                 {Set: map[string]string{names.StorageRootDir: "DIR" + configtest.Below}, Says: configtest.Below[:5]},
		"no place for its key":               {Set: map[string]string{names.HoldKeyPath: "DIR" + configtest.Below}, Says: configtest.Below[:5]},
		"a broken key":                       {Prepare: configtest.File("hold.key", "key"), Set: map[string]string{names.HoldKeyPath: "DIR/hold.key"}, Says: "hold.key"},
		"a broken key of URLs":               {Prepare: configtest.File("db/url.key", "key"), Says: "url.key"},
		"a ledger that is none":              {Prepare: configtest.File("db/ledger.sqlite", "this is no database at all"), Says: "database"},
		"an embedded PDS that is none":       {Prepare: configtest.File("db/pds/pds.sqlite", "this is no database at all"), Says: "database"},
		"the directory of another hold":      {Prepare: served, Set: map[string]string{names.HoldPublicURL: "http://127.0.0.1:8081"}, Says: "belongs to did:web:127.0.0.1%3A8080"},
		"it was killed":                      {Prepare: killed},
		"the directory of a killed hold":     {Prepare: killed, Set: map[string]string{names.HoldPublicURL: "http://127.0.0.1:8081"}, Says: "belongs to did:web:127.0.0.1%3A8080"},
		"a did:web that should be a did:plc": {Prepare: served, Set: map[string]string{names.HoldDIDMethod: "plc"}, Says: "cannot become a did:plc"},
		"the files of two holds": {Prepare: func(t *testing.T, dir string) {
			served(t, dir)
			configtest.File("db/did.txt", "did:web:hold.example.com\n")(t, dir)
		},
			Says: "mixed"},
	})
}

func TestVariablesThatAHoldDoesNotKnowAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	set := map[string]string{names.HoldPublicURL: "http://127.0.0.1:1", names.HoldOwner: "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		names.HoldDatabaseDir: filepath.Join(dir, "db"), names.StorageDriver: "filesystem", names.StorageRootDir: filepath.Join(dir, "blobs"),
		"HOLD_SERVICE_HOST": "10.0.0.1", "HOLD_PORT_80_TCP": "tcp://10.0.0.1:80", "S3_HEADERS": ""}
	var environ []string
	for name, value := range set {
		environ = append(environ, name+"="+value)
	}
	var out bytes.Buffer
	require.NoError(t, check(t.Context(), &out, environ))
	require.NotContains(t, out.String(), "warning:", "Kubernetes sets such variables by itself, and one that is empty says nothing")

	odd := []string{"HOLD_PUBLC=true", "HOLD_ADMIN_ENABLED=true", "S3_ENDPONT=http://127.0.0.1:9000", "TEST_MODE=true"}
	require.NoError(t, check(t.Context(), &out, append(environ, odd...)))
	for _, line := range []string{"HOLD_PUBLC is not a variable", "HOLD_ADMIN_ENABLED is not a variable", "S3_ENDPONT is not a variable", "TEST_MODE=true: plain HTTP"} {
		require.Contains(t, out.String(), "warning: "+line)
	}

	// The hold itself says it before anything else: this one has no key that it could read.
	for _, kv := range append(environ, append(odd, names.HoldKeyPath+"="+dir)...) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	cmd := command()
	var log bytes.Buffer
	cmd.SetErr(&log)
	cmd.SetArgs([]string{"serve"})
	require.Error(t, cmd.ExecuteContext(t.Context()))
	require.Contains(t, log.String(), "HOLD_PUBLC is not a variable of this server")
	require.Contains(t, log.String(), "TEST_MODE=true: plain HTTP")
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
