package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// part is one that is killed and started again.
type part interface {
	String() string
	kill() error
	start(ctx context.Context) error // returns when it is ready
}

// process is a server of ours in a process of its own, which is started again on the same address and folders.
type process struct {
	name   string
	binary string
	args   []string
	env    []string
	ready  string // URL that answers 200 when it is
	log    string // file

	cmd   *exec.Cmd
	ended chan struct{}
	lives int
}

func (p *process) String() string { return p.name }

const startLimit = 90 * time.Second // of a busy machine; it is not reached unless something hangs

func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.binary, p.args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}, p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive a test that is killed
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p, err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // ProcessState says how it ended
	p.cmd, p.ended = cmd, ended
	p.lives++
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for !answers(limited, p.ready) {
		select {
		case <-ended:
			return fmt.Errorf("%s ended before it was ready: %s", p, cmd.ProcessState)
		case <-limited.Done():
			return fmt.Errorf("%s is not ready: %w", p, limited.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

func (p *process) kill() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself: %s", p, p.cmd.ProcessState)
	default:
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", p, err)
	}
	<-p.ended
	return nil
}

// stop asks it to end, and says how it did.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", p, err)
	}
	<-p.ended
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with %s", p, p.cmd.ProcessState)
	}
	return nil
}

func (p *process) running() bool {
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// said is what the log holds that no server may ever say.
func (p *process) said() error {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") ||
			strings.Contains(line, "http: panic") {
			return fmt.Errorf("%s said: %s", p, line)
		}
	}
	return nil
}

// tail is the end of the log.
func (p *process) tail() string {
	log, _ := os.ReadFile(p.log) // better than nothing
	const most = 6000
	return string(log[max(0, len(log)-most):])
}

var probe = &http.Client{Timeout: 5 * time.Second}

func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := probe.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// build compiles our servers, with the race detector when this test has it, and returns their folder.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	for _, name := range []string{"atcr-appview", "atcr-hold", "atcr-dev"} {
		args = append(args, "atcr.io/operator/appview/cmd/"+name)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}
