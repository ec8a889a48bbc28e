package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
	"atcr.io/operator/test/testenv"
)

// start runs the server's command with an environment, and gives its last word. It must fail.
func start(t *testing.T, environ []string) names.Termination {
	t.Helper()
	path := filepath.Join(t.TempDir(), "termination-log")
	for _, kv := range append(environ, names.TerminationLog+"="+path, names.HTTPAddr+"=127.0.0.1:0", names.DebugAddr+"=127.0.0.1:0") {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	cmd := command()
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs([]string{"serve"})
	require.Error(t, cmd.ExecuteContext(t.Context()))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	word, ok := names.ParseTermination(string(b))
	require.True(t, ok, "%s", b)
	return word
}

func TestTheLastWordSaysThatTheDatabaseIsOfANewerRelease(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		db, err := store.Open(t.Context(), e.Options)
		require.NoError(t, err)
		require.NoError(t, db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, $1)`, true)
			return err
		}))
		require.NoError(t, db.Close())
		env := environ(t.TempDir())
		for k, v := range e.Env() {
			env = append(env, k+"="+v)
		}
		word := start(t, env)
		require.Equal(t, names.EndedSchemaTooNew, word.Reason)
		require.EqualValues(t, 9999, word.Have)
		require.Less(t, word.Known, word.Have)
		require.Positive(t, word.Known)
	})
}

func TestTheLastWordSaysThatTheDiskIsFull(t *testing.T) {
	testenv.OnSmallDisk(t, 4<<20, func(t *testing.T, disk string) {
		testenv.Fill(t, disk)
		require.Equal(t, names.EndedDatabaseFull, start(t, environ(t.TempDir(), names.UIDatabasePath+"="+filepath.Join(disk, "ui.db"))).Reason)
	})
}

func TestTheLastWordSaysWhatIsInTheWay(t *testing.T) {
	cluster := storetest.Postgres(t)
	locked := filepath.Join(t.TempDir(), "ui.db")
	db, err := store.Open(t.Context(), store.Options{Path: locked, Exclusive: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for name, c := range map[string]struct{ variable, reason string }{
		"no such database":      {names.DatabaseURL + "=" + cluster.URL("nothing"), names.EndedDatabaseRefused},
		"another password":      {names.DatabaseURL + "=" + strings.Replace(cluster.URL("postgres"), "atcr:", "atcr:x", 1), names.EndedDatabaseRefused},
		"a file that is in use": {names.UIDatabasePath + "=" + locked, names.EndedDatabaseLocked},
		"no level":              {names.LogLevel + "=loud", names.EndedConfigInvalid},
		"a port that is none":   {names.BaseURL + "=https://h/path", names.EndedConfigInvalid},
		"no key":                {names.AuthKeyRequired + "=true", names.EndedFailed},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.reason, start(t, environ(t.TempDir(), c.variable)).Reason)
		})
	}
}

func TestAReleaseSaysWhichSchemaItBringsAndRefusesANewerOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.db")
	db, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	brought, err := store.Check(t.Context(), path)
	require.NoError(t, err)

	word := filepath.Join(t.TempDir(), "termination-log")
	t.Setenv(names.TerminationLog, word)
	run := func(args ...string) (string, error) {
		cmd, out := command(), &bytes.Buffer{}
		cmd.SetOut(out)
		cmd.SetArgs(append([]string{names.CommandSchema}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	for _, args := range [][]string{nil, {"--" + names.FlagDatabaseHas, "1"}, {"--" + names.FlagDatabaseHas, fmt.Sprint(brought)}} {
		out, err := run(args...)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintln(brought), out)
		require.NoFileExists(t, word)
	}
	_, err = run("--"+names.FlagDatabaseHas, fmt.Sprint(brought+1))
	require.ErrorIs(t, err, store.ErrNewerSchema)
	b, err := os.ReadFile(word)
	require.NoError(t, err)
	left, ok := names.ParseTermination(string(b))
	require.True(t, ok, "%s", b)
	require.Equal(t, names.Termination{Reason: names.EndedSchemaTooNew, Have: brought + 1, Known: brought}, left)
}
