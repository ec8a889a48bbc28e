package main

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"

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
	file := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		}
	}
	const below = "/file/below" // a path below a file cannot be made
	for name, c := range map[string]struct {
		prepare func(*testing.T, string)
		set     map[string]string // "DIR" is the test's directory
		says    string            // nothing: the hold starts
	}{
		"nothing is there yet":               {},
		"it has run before":                  {prepare: served},
		"a first start that was cut off":     {prepare: file("db/pds/pds.sqlite", "")},
		"no place for its databases":         {set: map[string]string{names.HoldDatabaseDir: "DIR" + below}, says: below[:5]},
		"no place for blobs":                 {set: map[string]string{names.StorageRootDir: "DIR" + below}, says: below[:5]},
		"no place for its key":               {set: map[string]string{names.HoldKeyPath: "DIR" + below}, says: below[:5]},
		"a broken key":                       {prepare: file("hold.key", "key"), set: map[string]string{names.HoldKeyPath: "DIR/hold.key"}, says: "hold.key"},
		"a broken key of URLs":               {prepare: file("db/url.key", "key"), says: "url.key"},
		"a ledger that is none":              {prepare: file("db/ledger.sqlite", "this is no database at all"), says: "database"},
		"an embedded PDS that is none":       {prepare: file("db/pds/pds.sqlite", "this is no database at all"), says: "database"},
		"the directory of another hold":      {prepare: served, set: map[string]string{names.HoldPublicURL: "http://127.0.0.1:8081"}, says: "belongs to did:web:127.0.0.1%3A8080"},
		"it was killed":                      {prepare: killed},
		"the directory of a killed hold":     {prepare: killed, set: map[string]string{names.HoldPublicURL: "http://127.0.0.1:8081"}, says: "belongs to did:web:127.0.0.1%3A8080"},
		"a did:web that should be a did:plc": {prepare: served, set: map[string]string{names.HoldDIDMethod: "plc"}, says: "cannot become a did:plc"},
		"the files of two holds": {prepare: func(t *testing.T, dir string) {
			served(t, dir)
			file("db/did.txt", "did:web:hold.example.com\n")(t, dir)
		},
			says: "mixed"},
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
