package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

// run runs a subcommand, in this process, in the environment of the hold.
func (p *process) run(args ...string) (stdout, stderr string, err error) {
	for _, v := range p.env {
		if name, value, _ := strings.Cut(v, "="); name != asCommand {
			p.t.Setenv(name, value)
		}
	}
	c := command()
	var out, errs bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&errs)
	err = c.ExecuteContext(p.t.Context())
	if err != nil {
		errs.WriteString(err.Error())
	}
	return out.String(), errs.String(), err
}

func (p *process) mustRun(args ...string) string {
	p.t.Helper()
	out, errs, err := p.run(args...)
	require.NoError(p.t, err, "%s", errs)
	return out
}

func TestTheCrewOfARunningHold(t *testing.T) {
	p := newProcess(t, "HOLD_QUOTA_TIERS=deckhand=1GB,bosun")
	const member = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	require.Contains(t, p.mustRun("crew", "add", member), "added "+member)
	require.Contains(t, p.mustRun("crew", "add", member, "--permissions", "blob:read"), "changed "+member)
	require.Contains(t, p.mustRun("crew", "set-tier", member, "bosun"), "bosun")
	list := p.mustRun("crew", "list")
	require.Regexp(t, member+` +member +blob:read +bosun +2`, list)
	require.Regexp(t, p.net.Account("alice.test").DID.String()+` +owner +blob:read,blob:write,crew:admin`, list)

	require.Contains(t, p.mustRun("crew", "remove", member), "removed")
	require.NotContains(t, p.mustRun("crew", "list"), member)
	_, errs, err := p.run("crew", "remove", member)
	require.Error(t, err)
	require.Contains(t, errs, "not in the crew")
	_, errs, err = p.run("crew", "add", member, "--permissions", "everything")
	require.Error(t, err)
	require.Contains(t, errs, "blob:read")

	p.kill()
	_, errs, err = p.run("crew", "list")
	require.Error(t, err)
	require.Contains(t, errs, "start it first")
}

func TestTheRepositoryIsExportedAndImported(t *testing.T) {
	p := newProcess(t)
	p.mustRun("crew", "add", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	dir := t.TempDir()
	file := filepath.Join(dir, "hold.car")
	p.mustRun("repo", "export", file) // of the running hold
	running, err := os.ReadFile(file)
	require.NoError(t, err)
	_, errs, err := p.run("repo", "export", file)
	require.Error(t, err)
	require.Contains(t, errs, "exists already")
	_, errs, err = p.run("repo", "import", file)
	require.Error(t, err)
	require.Contains(t, errs, "stop it first")

	p.kill()
	require.Equal(t, string(running), p.mustRun("repo", "export")) // of the stopped one
	_, errs, err = p.run("repo", "export", filepath.Join(dir, "no", "such", "folder.car"))
	require.Error(t, err)
	require.NotEmpty(t, errs)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "no half file is left")

	in, err := pds.ReadRepoCAR(t.Context(), bytes.NewReader(running))
	require.NoError(t, err)
	db := filepath.Join(dir, "new")
	require.NoError(t, os.MkdirAll(db, 0o700))
	for i, v := range p.env {
		if old, ok := strings.CutPrefix(v, "HOLD_DATABASE_DIR="); ok {
			key, err := os.ReadFile(filepath.Join(old, "hold.key"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(db, "hold.key"), key, 0o600))
			p.env[i] = "HOLD_DATABASE_DIR=" + db
		}
	}
	require.Contains(t, p.mustRun("repo", "import", file), "imported 3 records of "+in.Commit.DID)
	_, _, err = p.run("repo", "import", file)
	require.Error(t, err, "there are members already")
	require.Contains(t, p.mustRun("repo", "import", "--force", file), "before-import-")
	p.start()
	require.Contains(t, p.mustRun("crew", "list"), "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
}
