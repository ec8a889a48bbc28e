package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one server under measurement.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string // file with its output
	ended chan struct{}
	start time.Duration // from exec to the first good answer
}

// program is how to start a server, as often as wanted.
type program struct {
	name   string
	binary string
	args   []string
	env    []string
	ready  string // URL that answers 200 or 401 when it serves
}

const (
	readyTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// launch starts a program and waits until it is ready. Its output goes to a file in dir, as a service's does.
func launch(ctx context.Context, p program, dir string) (*process, error) {
	log, err := os.CreateTemp(dir, p.name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &process{name: p.name, cmd: exec.Command(p.binary, p.args...), log: log.Name(), ended: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), p.env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began, started := time.Now(), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the thread that started the process ends
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
		close(s.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	if err := s.await(ctx, p.ready); err != nil {
		s.stop()
		return nil, err
	}
	s.start = time.Since(began)
	return s, nil
}

// await polls until url answers. The interval is short: the time to the first answer is measured.
func (s *process) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if answers(ctx, url) {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return fmt.Errorf("%s ended before it was ready:\n%s", s.name, s.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready at %s:\n%s", s.name, url, s.tail())
		}
	}
}

func answers(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode < 500 && response.StatusCode != http.StatusNotFound
}

// tail is the end of what the process printed.
func (s *process) tail() string {
	raw, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-2000):])
}

// stop ends the process, at first politely.
func (s *process) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// cpu is the processor time that all threads of the process have used, user and system, in nanoseconds: its CPU clock
// (clock_getcpuclockid(3)), which is finer than the 10 ms ticks of /proc.
func (s *process) cpu() (time.Duration, error) {
	const schedulerClock = 2 // CPUCLOCK_SCHED of linux/posix-timers.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|schedulerClock), &t); err != nil {
		return 0, fmt.Errorf("CPU clock of %s: %w", s.name, err)
	}
	return time.Duration(t.Nano()), nil
}

// memory is the resident set of the process now and at its highest, in bytes (proc_pid_status(5)).
func (s *process) memory() (now, peak int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("%s: /proc says nothing about its memory", s.name)
	}
	return now, peak, nil
}

// ports are n loopback ports that were free a moment ago, all different.
func ports(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out, nil
}

// root is the folder of the repository: the one with go.mod above the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "hack", "tool.sh")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it in the repository")
		}
	}
}

// build compiles one of this repository's commands as the images have it, and gives its path.
func build(ctx context.Context, into, pkg string) (string, error) {
	top, err := root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(into, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./"+pkg)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	return out, nil
}

// ErrTool says that a program which hack/tools pins cannot be had.
var ErrTool = errors.New("a pinned tool cannot be had")

// tool is the path of a program that hack/tools pins; the first time it is compiled, which takes minutes.
func tool(ctx context.Context, name string) (string, error) {
	top, err := root()
	if err != nil {
		return "", err
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(top, "hack", "tool.sh"), name)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: hack/tool.sh %s: %w: %s", ErrTool, name, err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
