package referencepds

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 15 * time.Second
)

// Options of a PDS.
type Options struct {
	// Handles of the accounts to create; each must end in .test. None: alice.test and bob.test.
	Handles []string
	// RateLimits turns on the limits of a PDS in production, such as 30 createSession in five minutes.
	RateLimits bool
}

// Account and how to use it.
type Account struct {
	DID, Handle           string
	Password, AppPassword string
}

// PDS is a running reference PDS with its PLC directory.
type PDS struct {
	URL, PLCURL string

	accounts map[string]Account
	cmd      *exec.Cmd
	stdin    io.Closer
	exited   chan struct{}
	serving  chan bool // what Pause and Resume wait for

	mu     sync.Mutex
	counts map[call]int
}

// call is a method and the status that it was answered with.
type call struct {
	Method string
	Status int
}

// Start runs a PDS until the test ends.
func Start(t testing.TB, opts Options) *PDS {
	t.Helper()
	dir := install(t)
	args := []string{filepath.Join(dir, "pds.mjs"), "--until-stdin-ends", "--data", t.TempDir()}
	if opts.RateLimits {
		args = append(args, "--rate-limits")
	}
	p := &PDS{accounts: map[string]Account{}, counts: map[call]int{}, exited: make(chan struct{}), serving: make(chan bool, 1)}
	p.cmd = exec.Command(filepath.Join(dir, "node"), args...)
	var stderr bytes.Buffer
	p.cmd.Stderr = &stderr
	var err error
	// The process ends with its standard input: it outlives no test that is killed.
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.Stop)

	ready := make(chan struct{})
	go func() {
		defer close(p.exited)
		p.follow(stdout, ready)
		_ = p.cmd.Wait() // how it ended is told by who waited for it
	}()
	select {
	case <-ready:
	case <-p.exited:
		t.Fatalf("the reference PDS ended before it was ready:\n%s", stderr.Bytes())
	case <-time.After(startTimeout):
		t.Fatalf("the reference PDS was not ready within %s", startTimeout)
	}
	if len(opts.Handles) == 0 {
		opts.Handles = []string{"alice.test", "bob.test"}
	}
	for _, handle := range opts.Handles {
		p.accounts[handle] = p.create(t, handle)
	}
	return p
}

// follow reads what hack/peers/pds.mjs prints.
func (p *PDS) follow(stdout io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var line struct {
			Ready    bool
			Serving  *bool
			PDS, PLC string
			call
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // something that a library of the PDS prints
		}
		if line.Ready {
			p.URL, p.PLCURL = line.PDS, line.PLC
			close(ready)
			continue
		}
		if line.Serving != nil {
			p.serving <- *line.Serving
			continue
		}
		p.mu.Lock()
		p.counts[line.call]++
		p.mu.Unlock()
	}
}

// Stop ends the PDS; its URL refuses connections afterwards.
func (p *PDS) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
	_ = p.stdin.Close()
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// Pause takes the PDS away, and not the PLC directory; its URL refuses connections until Resume.
func (p *PDS) Pause(t testing.TB) {
	t.Helper()
	require.False(t, p.toggle(t))
}

// Resume starts the PDS again, over the data that it had.
func (p *PDS) Resume(t testing.TB) {
	t.Helper()
	require.True(t, p.toggle(t))
}

// toggle reports whether the PDS serves afterwards.
func (p *PDS) toggle(t testing.TB) bool {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGUSR2))
	select {
	case serving := <-p.serving:
		return serving
	case <-p.exited:
		t.Fatal("the reference PDS ended")
	case <-time.After(startTimeout):
		t.Fatalf("the reference PDS did not change within %s", startTimeout)
	}
	return false
}

// Account that was created at the start.
func (p *PDS) Account(t testing.TB, handle string) Account {
	t.Helper()
	a, ok := p.accounts[handle]
	require.True(t, ok, "no account %s", handle)
	return a
}

// Count of the calls of a method (its NSID) that were answered with status; a status of 0 counts all.
func (p *PDS) Count(method string, status int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if status != 0 {
		return p.counts[call{method, status}]
	}
	n := 0
	for c, times := range p.counts {
		if c.Method == method {
			n += times
		}
	}
	return n
}

// create makes an account with an app password.
func (p *PDS) create(t testing.TB, handle string) Account {
	t.Helper()
	a := Account{Handle: handle, Password: "account password of " + handle}
	var made struct{ DID, AccessJWT string }
	p.post(t, "com.atproto.server.createAccount", "", map[string]string{
		"handle": handle, "email": handle + "@example.com", "password": a.Password,
	}, &made)
	var app struct{ Password string }
	p.post(t, "com.atproto.server.createAppPassword", made.AccessJWT, map[string]string{"name": "registry"}, &app)
	a.DID, a.AppPassword = made.DID, app.Password
	return a
}

func (p *PDS) post(t testing.TB, method, token string, input, output any) {
	t.Helper()
	raw, err := json.Marshal(input)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/xrpc/"+method, bytes.NewReader(raw))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s: %s", method, answer)
	require.NoError(t, json.Unmarshal(answer, output))
}
