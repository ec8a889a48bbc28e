package main

import (
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGarbageIsCollectedByTheHoldThatRunsOrByTheCommandAlone(t *testing.T) {
	p := newProcess(t)
	id := p.begin()
	require.Equal(t, http.StatusOK, p.complete(id, "young", p.part(id, 1, "young")))
	run := func(args ...string) string {
		cmd := exec.Command(os.Args[0], append([]string{"gc"}, args...)...)
		cmd.Env = append(os.Environ(), p.env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	require.Contains(t, run("--dry-run"), "would remove 0")
	require.Contains(t, p.log.String(), "garbage collection", "the running hold did it")
	p.kill()
	out := run()
	require.Contains(t, out, "users                    1, of them left alone")
	require.Contains(t, out, "removed 0")
	p.start()
	got, status := p.pull("young")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "young", got)
}
