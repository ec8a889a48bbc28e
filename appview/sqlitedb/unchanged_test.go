package sqlitedb_test

import (
	"bufio"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/sqlitedb"
)

// serving names the file that this test program writes as another process.
const serving = "SQLITEDB_TEST_SERVES"

func TestMain(m *testing.M) {
	path := os.Getenv(serving)
	if path == "" {
		os.Exit(m.Run())
	}
	db, err := sqlitedb.Open((&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "_pragma=journal_mode(wal)"}).String())
	for _, statement := range []string{"CREATE TABLE t (n)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"} {
		if err == nil {
			_, err = db.Exec(statement)
		}
	}
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("written\n")
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is told to end
	if err := db.Close(); err != nil {
		panic(err)
	}
}

// served has another process write two rows to a database, and returns how it is told to end and how it is killed.
func served(t *testing.T, path string) (end, kill func()) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serving+"="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "written\n", line)
	return func() { require.NoError(t, in.Close()); require.NoError(t, cmd.Wait()) },
		func() { require.NoError(t, cmd.Process.Kill()); _ = cmd.Wait() }
}

// contents are the files of a directory, and what is in them.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		all[e.Name()] = string(b)
	}
	return all
}

func TestLookingIntoADatabaseChangesNoFile(t *testing.T) {
	for name, c := range map[string]struct {
		then  func(t *testing.T, path string, end, kill func())
		files []string
		rows  []int // nothing: not even the table
	}{
		"of a server that runs":      {func(*testing.T, string, func(), func()) {}, []string{"x.db", "x.db-shm", "x.db-wal"}, []int{1, 2}},
		"of one that was killed":     {func(_ *testing.T, _ string, _, kill func()) { kill() }, []string{"x.db", "x.db-shm", "x.db-wal"}, []int{1, 2}},
		"of one that ended":          {func(_ *testing.T, _ string, end, _ func()) { end() }, []string{"x.db"}, []int{1, 2}},
		"of a log without its index": {func(t *testing.T, path string, _, kill func()) { kill(); require.NoError(t, os.Remove(path+"-shm")) }, []string{"x.db", "x.db-wal"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "with spaces, %20 and ?")
			require.NoError(t, os.Mkdir(dir, 0o700))
			path := filepath.Join(dir, "x.db")
			end, kill := served(t, path)
			c.then(t, path, end, kill)
			before := contents(t, dir)
			require.Len(t, before, len(c.files))
			for _, f := range c.files {
				require.Contains(t, before, f)
			}
			db, err := sqlitedb.OpenUnchanged(path)
			require.NoError(t, err)
			if c.rows != nil {
				require.Equal(t, c.rows, numbers(t, db))
			} else {
				_, err := db.Query(list)
				require.ErrorContains(t, err, "no such table")
			}
			_, err = db.Exec("INSERT INTO t VALUES (3)")
			require.Error(t, err)
			require.NoError(t, db.Close())
			require.Equal(t, before, contents(t, dir))
		})
	}
}
