package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
)

func TestBackupsAreMadeListedAndRestoredByCommand(t *testing.T) {
	dir := t.TempDir()
	path, backups := filepath.Join(dir, "ui.db"), filepath.Join(dir, "backups")
	t.Setenv(names.UIDatabasePath, path)
	run := func(args ...string) (string, error) {
		cmd := command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"backup"}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	_, err := run("now")
	require.ErrorContains(t, err, names.BackupDir)
	t.Setenv(names.BackupDir, backups)
	_, err = run("restore", "latest")
	require.ErrorContains(t, err, "there is no backup in "+backups)
	db, err := store.Open(t.Context(), store.Options{Path: path, Exclusive: true})
	require.NoError(t, err)
	out, err := run("now")
	require.NoError(t, err)
	file := strings.TrimSpace(out)
	require.Equal(t, backups, filepath.Dir(file))
	out, err = run("list")
	require.NoError(t, err)
	require.Contains(t, out, file)

	_, err = run("restore", file)
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, db.Close())
	out, err = run("restore", "latest")
	require.NoError(t, err)
	require.Contains(t, out, "is now "+path+".before-")
	require.Contains(t, out, "from "+file)
	require.FileExists(t, path)

	t.Setenv(names.DatabaseURL, "postgres://u:s3cret@h/d")
	_, err = run("now")
	require.ErrorContains(t, err, "PostgreSQL")
	require.NotContains(t, err.Error(), "s3cret")
}
