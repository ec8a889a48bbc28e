package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/test/testenv"
)

// The test binary is the command itself when this is set: what is killed is a real process.
const asCommand = "ATCR_HOLD_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is a hold in a process of its own.
type process struct {
	t     *testing.T
	net   *devnet.Net
	env   []string
	blobs string
	url   string
	debug string

	cmd   *exec.Cmd
	log   *syncBuffer
	ended chan error
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newProcess(t *testing.T, extra ...string) *process {
	t.Helper()
	dev, err := devnet.Start(t.Context(), devnet.Config{Dir: t.TempDir(), Accounts: []devnet.Account{{Handle: "alice.test"}}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = dev.Close() })
	dir := t.TempDir()
	addr, debug := freeAddr(t), freeAddr(t)
	p := &process{t: t, net: dev, blobs: filepath.Join(dir, "blobs"), debug: "http://" + debug}
	p.url = "http://localhost:" + addr[strings.LastIndexByte(addr, ':')+1:]
	p.env = append([]string{
		asCommand + "=1", "TEST_MODE=true", "HOLD_HTTP_ADDR=" + addr, "HOLD_DEBUG_ADDR=" + debug, "HOLD_PUBLIC_URL=" + p.url,
		"HOLD_OWNER=" + dev.Account("alice.test").DID.String(), "HOLD_PUBLIC=true", "HOLD_PLC_URL=" + dev.URL(),
		"HOLD_DATABASE_DIR=" + filepath.Join(dir, "db"), "STORAGE_DRIVER=filesystem", "STORAGE_ROOT_DIR=" + p.blobs,
	}, extra...)
	p.start()
	t.Cleanup(func() { p.kill() })
	return p
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := testenv.Port("127.0.0.1")
	require.NoError(t, err)
	return fmt.Sprint("127.0.0.1:", port)
}

// start runs the process until it is ready.
func (p *process) start() {
	p.t.Helper()
	p.log, p.ended = &syncBuffer{}, make(chan error, 1)
	p.cmd = exec.Command(os.Args[0], "serve")
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = p.log
	require.NoError(p.t, p.cmd.Start())
	go func() { p.ended <- p.cmd.Wait() }()
	require.Eventually(p.t, func() bool {
		resp, err := http.Get(p.debug + names.PathReady)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond, "not ready")
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd = nil
}

type object = map[string]any

func (p *process) token() string {
	p.t.Helper()
	var session struct{ AccessJWT string }
	p.post(p.net.URL()+"/xrpc/com.atproto.server.createSession", "",
		object{"identifier": "alice.test", "password": p.net.Account("alice.test").Password}, &session)
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet,
		p.net.URL()+"/xrpc/com.atproto.server.getServiceAuth?aud="+url.QueryEscape("did:web:"+strings.Replace(strings.TrimPrefix(p.url, "http://"), ":", "%3A", 1)), nil)
	require.NoError(p.t, err)
	req.Header.Set("Authorization", "Bearer "+session.AccessJWT)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	var out struct{ Token string }
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&out))
	return out.Token
}

// post returns the status and decodes a good answer.
func (p *process) post(target, token string, in, out any) int {
	p.t.Helper()
	b, err := json.Marshal(in)
	require.NoError(p.t, err)
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, target, bytes.NewReader(b))
	require.NoError(p.t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	if resp.StatusCode < 300 && out != nil {
		require.NoError(p.t, json.NewDecoder(resp.Body).Decode(out))
	}
	return resp.StatusCode
}

func (p *process) call(method string, in, out any) int {
	p.t.Helper()
	return p.post(p.url+"/xrpc/io.atcr.hold."+method, p.token(), in, out)
}

func (p *process) begin() string {
	p.t.Helper()
	var out struct{ UploadID string }
	require.Equal(p.t, http.StatusOK, p.call("initiateUpload", object{"digest": "x"}, &out))
	return out.UploadID
}

func (p *process) partURL(id string, n int) string {
	p.t.Helper()
	var out struct{ URL string }
	require.Equal(p.t, http.StatusOK, p.call("getPartUploadUrl", object{"uploadId": id, "partNumber": n}, &out))
	return out.URL
}

func (p *process) part(id string, n int, content string) object {
	p.t.Helper()
	resp := p.put(p.partURL(id, n), strings.NewReader(content))
	require.Equal(p.t, http.StatusOK, resp.StatusCode)
	return object{"partNumber": n, "etag": resp.Header.Get("ETag")}
}

func (p *process) put(target string, body io.Reader) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPut, target, body)
	require.NoError(p.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	resp.Body.Close()
	return resp
}

func (p *process) complete(id, content string, parts ...object) int {
	p.t.Helper()
	return p.call("completeUpload", object{"uploadId": id, "digest": digest.FromString(content), "parts": parts}, nil)
}

// pull is the blob of that content, or the status.
func (p *process) pull(content string) (string, int) {
	p.t.Helper()
	resp, err := http.Get(p.url + "/xrpc/com.atproto.sync.getBlob?" + url.Values{
		"did": {p.net.Account("alice.test").DID.String()}, "cid": {digest.FromString(content).String()}}.Encode())
	require.NoError(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return string(b), resp.StatusCode
}

func (p *process) files(below string) (found []string) {
	p.t.Helper()
	require.NoError(p.t, filepath.WalkDir(filepath.Join(p.blobs, below), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func TestAHoldKilledInMidUploadLosesNothingAcknowledgedAndShowsNothingElse(t *testing.T) {
	p := newProcess(t)
	done := p.begin()
	require.Equal(t, http.StatusOK, p.complete(done, "acknowledged", p.part(done, 1, "acknowledged")))
	id := p.begin()
	first := p.part(id, 1, "first,")

	// The second part is half there when the process dies.
	pr, pw := io.Pipe()
	target := p.partURL(id, 2)
	sent := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, target, pr)
		if err == nil {
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
				err = fmt.Errorf("answered %s", resp.Status)
			}
		}
		sent <- err
	}()
	half := strings.Repeat("x", 1<<20)
	_, err := io.WriteString(pw, half)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		for _, f := range p.files("uploads") {
			if info, err := os.Stat(f); err == nil && info.Size() >= 1<<19 {
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond, "the bytes do not arrive on disk")
	p.kill()
	pw.CloseWithError(io.ErrClosedPipe) // the client's transport waits for its body to end
	require.NotContains(t, (<-sent).Error(), "answered")
	require.Len(t, p.files("blobs"), 1)

	p.start()
	got, status := p.pull("acknowledged")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "acknowledged", got)
	_, status = p.pull("first,second")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, http.StatusBadRequest, p.complete(id, "first,second", first, object{"partNumber": 2}), "half a part is none")

	require.Equal(t, http.StatusOK, p.complete(id, "first,second", first, p.part(id, 2, "second")), "the upload goes on")
	got, _ = p.pull("first,second")
	require.Equal(t, "first,second", got)
	require.Empty(t, p.files("uploads"))
}

func TestAHoldOnS3KilledBetweenPartsGoesOn(t *testing.T) {
	srv := s3test.Start(t)
	p := newProcess(t, "STORAGE_DRIVER=s3", "S3_ENDPOINT="+srv.Endpoint, "S3_BUCKET="+srv.Bucket(t), "AWS_REGION="+srv.Region,
		"AWS_ACCESS_KEY_ID="+srv.AccessKey, "AWS_SECRET_ACCESS_KEY="+srv.SecretKey)
	id := p.begin()
	first := p.part(id, 1, "first,")
	p.kill()
	p.start()
	require.Equal(t, http.StatusOK, p.complete(id, "first,second", first, p.part(id, 2, "second")))
	got, _ := p.pull("first,second")
	require.Equal(t, "first,second", got)
}

func TestSIGTERMLetsUploadsFinishAndExitsWithZero(t *testing.T) {
	p := newProcess(t)
	id := p.begin()
	target := p.partURL(id, 1)
	pr, pw := io.Pipe()
	status := make(chan int, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, target, pr)
		if err != nil {
			status <- 0
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	_, err := io.WriteString(pw, "before,")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(p.files("uploads")) > 0 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { // it takes no new connection any more
		conn, err := net.Dial("tcp", strings.Replace(strings.TrimPrefix(p.url, "http://"), "localhost", "127.0.0.1", 1))
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, time.Minute, 10*time.Millisecond)
	_, err = io.WriteString(pw, "after")
	require.NoError(t, err)
	require.NoError(t, pw.Close())
	require.Equal(t, http.StatusOK, <-status)
	require.NoError(t, <-p.ended, "exit status; log: %s", p.log)
	p.cmd = nil
}

func TestTheCommandExplainsItself(t *testing.T) {
	run := func(env []string, args ...string) (string, error) {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append([]string{asCommand + "=1"}, env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	help, err := run(nil, "--help")
	require.NoError(t, err)
	for _, v := range names.HoldVariables {
		require.Contains(t, help, v.Name)
		require.Contains(t, help, v.Doc)
	}
	out, err := run(nil, "--version")
	require.NoError(t, err)
	require.Contains(t, out, version.Version)
	out, err = run(nil, "serve")
	require.Error(t, err)
	require.Contains(t, out, "HOLD_PUBLIC_URL: required")
	require.NotContains(t, out, "Usage:")
	out, err = run([]string{"HOLD_PUBLIC_URL=https://h.example.com", "HOLD_OWNER=did:plc:x", "AWS_SECRET_ACCESS_KEY=hush"}, "serve")
	require.Error(t, err)
	require.NotContains(t, out, "hush")
	_, err = run(nil, "unknown")
	require.Error(t, err)
}
