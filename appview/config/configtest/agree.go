// Package configtest is for tests of what "config check" says.
package configtest

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Below is a path below a file of a case's directory, which cannot be made.
const Below = "/file/below"

// Case is a configuration, and what is there when the server starts.
type Case struct {
	Prepare func(t *testing.T, dir string)
	Set     map[string]string // "DIR" is the case's directory
	Says    string            // nothing: the server starts
}

// Agree wants check to say of each case what open, which starts the server and ends it, says then; and to make and change
// nothing. environ is a good configuration in a directory, with changes.
func Agree(t *testing.T, environ func(dir string, more ...string) []string, check func(context.Context, io.Writer, []string) error,
	open func(t *testing.T, dir string, more ...string) error, cases map[string]Case) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			File("file", "")(t, dir)
			if c.Prepare != nil {
				c.Prepare(t, dir)
			}
			var more []string
			for k, v := range c.Set {
				more = append(more, k+"="+strings.Replace(v, "DIR", dir, 1))
			}
			before := listed(t, dir)
			var out bytes.Buffer
			checked := check(t.Context(), &out, environ(dir, more...))
			require.Equal(t, before, listed(t, dir), "check makes and changes nothing")
			started := open(t, dir, more...)
			if c.Says == "" {
				require.NoError(t, started)
				require.NoError(t, checked)
				return
			}
			require.ErrorContains(t, started, c.Says)
			require.ErrorContains(t, checked, c.Says)
		})
	}
}

// File prepares a file of the directory.
func File(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
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
