package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server"
	"atcr.io/operator/appview/server/servertest"
)

// serveVariable makes the test binary a server, so that a test can kill one.
const serveVariable = "ATCR_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveVariable) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := config.Load(os.Environ())
	if err == nil {
		err = server.Run(ctx, cfg, cfg.Logger(os.Stderr))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process is an AppView in a process of its own.
type process struct {
	cmd *exec.Cmd
	log bytes.Buffer // to be read after wait

	once sync.Once
}

// wait until it has ended and everything that it said is in its log.
func (p *process) wait() *os.ProcessState {
	p.once.Do(func() { _ = p.cmd.Wait() }) // the state says how it ended
	return p.cmd.ProcessState
}

func launch(t *testing.T, w *servertest.World) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(w.Environ(), serveVariable+"=1")
	p.cmd.Stderr = &p.log
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		p.wait()
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(w.DebugURL + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 5*time.Millisecond)
	return p
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	p.wait()
}

// slowly gives its bytes and then stands still until it is closed.
type slowly struct {
	first   io.Reader
	sent    chan struct{} // closed when all of first is read
	release chan struct{}
}

func (s *slowly) Read(p []byte) (int, error) {
	n, err := s.first.Read(p)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF {
		close(s.sent)
		<-s.release
	}
	return 0, io.ErrUnexpectedEOF
}

func TestAPushGoesOnAfterTheServerWasKilled(t *testing.T) {
	w := servertest.Start(t, servertest.Options{NoAppView: true})
	p := launch(t, w)
	blob := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(blob)
	const chunk = 1 << 20

	loc := start(t, w)
	resp := w.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob[:chunk]), http.Header{"Content-Range": {fmt.Sprintf("0-%d", chunk-1)}})
	require.Equal(t, http.StatusAccepted, resp.StatusCode)

	// Killed in the middle of the second chunk.
	body := &slowly{first: bytes.NewReader(blob[chunk : chunk+chunk/2]), sent: make(chan struct{}), release: make(chan struct{})}
	token := w.Token(servertest.Alice, "repository:"+app+":pull,push")
	broken := make(chan error, 1)
	go func() {
		req, err := http.NewRequest(http.MethodPatch, w.URL+loc, body)
		if err == nil {
			req.ContentLength = chunk
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", chunk, 2*chunk-1))
			_, err = http.DefaultClient.Do(req)
		}
		broken <- err
	}()
	<-body.sent
	p.kill(t)
	close(body.release)
	require.Error(t, <-broken)

	launch(t, w)
	resp = w.Do(servertest.Alice, http.MethodGet, loc, app, nil, nil)
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Equal(t, fmt.Sprintf("0-%d", chunk-1), resp.Header.Get("Range"), "what was acknowledged is there, and nothing else")
	d := digest.FromBytes(blob)
	require.Equal(t, http.StatusNotFound, w.Do(servertest.Alice, http.MethodHead, "/v2/"+app+"/blobs/"+string(d), app, nil, nil).StatusCode)
	resp = w.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob[chunk:]), http.Header{"Content-Range": {fmt.Sprintf("%d-%d", chunk, len(blob)-1)}})
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	resp = w.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(d), app, nil, nil)
	require.Equal(t, http.StatusCreated, resp.StatusCode)

	config := push(t, w, app, []byte("{}"))
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifestOf(config, d, 2, len(blob))).StatusCode)
	got, err := crane.PullLayer(w.Host() + "/" + app + "@" + string(d))
	require.NoError(t, err)
	r, err := got.Compressed()
	require.NoError(t, err)
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(blob, all))
}

func TestALoadBalancerHasTimeToNoticeASIGTERM(t *testing.T) {
	w := servertest.Start(t, servertest.Options{NoAppView: true, AppViewEnv: map[string]string{names.ShutdownDelay: "1h"}})
	p := launch(t, w)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	fresh := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a connection for each request
	status := func(url string) int {
		resp, err := fresh.Get(url)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	require.Eventually(t, func() bool { return status(w.DebugURL+"/readyz") == http.StatusServiceUnavailable }, time.Minute, 5*time.Millisecond)
	require.Equal(t, http.StatusOK, status(w.URL+"/"), "it still takes new connections")
	require.Equal(t, http.StatusOK, status(w.DebugURL+"/livez"))
}

func TestSIGTERMLetsAnUploadComeToItsEnd(t *testing.T) {
	w := servertest.Start(t, servertest.Options{NoAppView: true, AppViewEnv: map[string]string{names.ShutdownDelay: "1ms"}})
	p := launch(t, w)
	blob := bytes.Repeat([]byte("slow "), 6<<20)
	const most = 20 << 20 // more than sockets buffer: when it is written, the handler is reading
	loc, token := start(t, w), w.Token(servertest.Alice, "repository:"+app+":pull,push")
	read, write := io.Pipe()
	done := make(chan int, 1)
	go func() {
		req, err := http.NewRequest(http.MethodPut, w.URL+loc+"?digest="+string(digest.FromBytes(blob)), read)
		if err != nil {
			done <- 0
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- 0
			return
		}
		resp.Body.Close()
		done <- resp.StatusCode
	}()
	_, err := write.Write(blob[:most])
	require.NoError(t, err)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { // it has stopped to accept
		_, err := http.Get(w.URL + "/")
		return err != nil && strings.Contains(err.Error(), "refused")
	}, time.Minute, 5*time.Millisecond)
	for path, want := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/healthz": http.StatusOK, "/livez": http.StatusOK} {
		resp, err := http.Get(w.DebugURL + path)
		require.NoError(t, err, "probes are answered until the last upload has ended")
		resp.Body.Close()
		require.Equal(t, want, resp.StatusCode, path)
	}
	_, err = write.Write(blob[most:])
	require.NoError(t, err)
	require.NoError(t, write.Close())
	require.Equal(t, http.StatusCreated, <-done)
	require.Equal(t, 0, p.wait().ExitCode(), "a clean stop")
}
