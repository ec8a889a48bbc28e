package clients

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/test/testenv"
)

// Blobs pass through AppView and hold in constant memory, in the three ways of pushing one: one of more than 2 GiB, which no
// signed 32-bit length holds, and of many parts where the AppView passes them on to S3 and streams them back. The servers are processes here, built without the race
// detector, and what is asserted is the most that each has ever had.
func TestLargeBlobsPassInConstantMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc")
	}
	const (
		limit  = 96 << 20 // resident bytes of a process
		growth = 64 << 20 // over what it had before
	)
	files := func(*testing.T) map[string]string { return nil }
	s3 := func(t *testing.T) map[string]string { return s3test.Start(t).HoldEnv(t) }
	for _, c := range []struct {
		name    string
		size    int64
		holdEnv func(*testing.T) map[string]string
		push    func(*network, *testing.T, int64) digest.Digest
	}{
		{"2 GiB and a byte to a hold on a filesystem, in a PATCH", 2<<30 + 1, files, (*network).pushByPatch},
		{"512 MiB and a byte to a hold on a filesystem, in a PUT", 512<<20 + 1, files, (*network).pushByPut},
		{"512 MiB and a byte to a hold on S3, in a PATCH", 512<<20 + 1, s3, (*network).pushByPatch},
		{"256 MiB and a byte to a hold on S3, in a POST", 256<<20 + 1, s3, (*network).pushByPost},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNetwork(t, c.holdEnv(t))
			servers := map[string]*process{"AppView": n.appView, "hold": n.hold}
			before := map[string]int64{}
			for name, p := range servers {
				before[name] = p.peak(t)
			}
			begin := time.Now()
			d := c.push(n, t, c.size)
			pushed := time.Now()
			require.Equal(t, d, n.pull(t, d))
			t.Logf("pushed in %v, pulled in %v", pushed.Sub(begin).Round(time.Millisecond), time.Since(pushed).Round(time.Millisecond))
			for name, p := range servers {
				peak := p.peak(t)
				t.Logf("%s: %d MiB at most, %d before", name, peak>>20, before[name]>>20)
				require.Less(t, peak, int64(limit), name)
				require.Less(t, peak-before[name], int64(growth), name)
			}
		})
	}
}

// network is devnet, and AppView and hold as processes. Where the hold is on S3, the AppView streams its blobs.
type network struct {
	url, token    string
	appView, hold *process
}

func startNetwork(t *testing.T, holdEnv map[string]string) *network {
	t.Helper()
	dev, err := devnet.Start(t.Context(), devnet.Config{Accounts: []devnet.Account{{Handle: servertest.Alice}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	dir, holdPort, port := t.TempDir(), freePort(t), freePort(t)
	env := map[string]string{
		names.HoldHTTPAddr: "127.0.0.1:" + holdPort, names.HoldDebugAddr: "127.0.0.1:" + freePort(t), names.HoldPublicURL: "http://localhost:" + holdPort,
		names.HoldOwner: dev.Account(servertest.Alice).DID.String(), names.HoldPublic: "true", names.HoldPLCURL: dev.URL(), names.TestMode: "true",
		names.HoldDatabaseDir: filepath.Join(dir, "hold"), names.StorageDriver: "filesystem", names.StorageRootDir: filepath.Join(dir, "blobs"),
	}
	maps.Copy(env, holdEnv)
	n := &network{url: "http://127.0.0.1:" + port}
	n.hold = launch(t, "atcr-hold", "http://127.0.0.1:"+holdPort+"/xrpc/_health", env)
	keys, did := filepath.Join(dir, "appview"), "did:web:localhost%3A"+holdPort
	runtimeFile := ""
	if len(holdEnv) > 0 {
		runtimeFile = filepath.Join(dir, names.FileRuntime)
		b, err := json.Marshal(names.Runtime{Version: names.RuntimeVersion,
			Holds: []names.Hold{{DID: did, Endpoint: "http://127.0.0.1:" + holdPort, Download: names.Proxy}}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(runtimeFile, b, 0o600))
	}
	n.appView = launch(t, "atcr-appview", n.url+"/v2/", map[string]string{
		names.HTTPAddr: "127.0.0.1:" + port, names.DebugAddr: "127.0.0.1:" + freePort(t), names.BaseURL: n.url, names.TestMode: "true",
		names.DefaultHoldDID: did, names.RuntimeFile: runtimeFile, names.PLCURL: dev.URL(), names.HandleResolverURL: dev.URL(),
		names.AuthKeyPath: filepath.Join(keys, names.FileSigningKey), names.AuthCertPath: filepath.Join(keys, names.FileSigningCert),
		names.SealingKeyPath: filepath.Join(keys, names.FileSealingKey), names.UIDatabasePath: filepath.Join(keys, "ui.db"),
		names.DIDKeyPath: filepath.Join(keys, "did.key"),
	})
	n.token = registryToken(t, n.url, servertest.Alice, dev.Account(servertest.Alice).AppPassword, "repository:"+huge+":pull,push")
	return n
}

const huge = "alice.test/huge"

// pushByPatch streams a blob that is nowhere whole, as docker does: one PATCH of unknown length.
func (n *network) pushByPatch(t *testing.T, size int64) digest.Digest {
	t.Helper()
	at := n.send(t, http.MethodPost, n.url+"/v2/"+huge+"/blobs/uploads/", http.NoBody, http.StatusAccepted).Header.Get("Location")
	sum := sha256.New()
	n.send(t, http.MethodPatch, n.url+at, io.TeeReader(io.LimitReader(&noise{}, size), sum), http.StatusAccepted)
	d := digest.NewDigest(digest.SHA256, sum)
	n.send(t, http.MethodPut, n.url+at+"?digest="+d.String(), http.NoBody, http.StatusCreated)
	return d
}

// pushByPut sends the blob in the request that ends the upload, as many libraries do.
func (n *network) pushByPut(t *testing.T, size int64) digest.Digest {
	t.Helper()
	d := digestOfNoise(t, size)
	at := n.send(t, http.MethodPost, n.url+"/v2/"+huge+"/blobs/uploads/", http.NoBody, http.StatusAccepted).Header.Get("Location")
	n.send(t, http.MethodPut, n.url+at+"?digest="+d.String(), io.LimitReader(&noise{}, size), http.StatusCreated)
	return d
}

// pushByPost sends it in the only request that there is.
func (n *network) pushByPost(t *testing.T, size int64) digest.Digest {
	t.Helper()
	d := digestOfNoise(t, size)
	n.send(t, http.MethodPost, n.url+"/v2/"+huge+"/blobs/uploads/?digest="+d.String(), io.LimitReader(&noise{}, size), http.StatusCreated)
	return d
}

func digestOfNoise(t *testing.T, size int64) digest.Digest {
	t.Helper()
	d, err := digest.SHA256.FromReader(io.LimitReader(&noise{}, size))
	require.NoError(t, err)
	return d
}

func (n *network) pull(t *testing.T, d digest.Digest) digest.Digest {
	t.Helper()
	resp := n.send(t, http.MethodGet, n.url+"/v2/"+huge+"/blobs/"+d.String(), http.NoBody, http.StatusOK)
	sum := sha256.New()
	_, err := io.Copy(sum, resp.Body)
	require.NoError(t, err)
	return digest.NewDigest(digest.SHA256, sum)
}

func (n *network) send(t *testing.T, method, url string, body io.Reader, status int) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	if whole, ok := body.(*io.LimitedReader); ok {
		req.ContentLength = whole.N
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	require.Equal(t, status, resp.StatusCode, "%s %s", method, req.URL.Path)
	return resp
}

// noise is an endless stream in which no block is twice.
type noise struct {
	block [1 << 16]byte
	left  []byte
	n     uint64
}

func (s *noise) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		s.n++
		binary.LittleEndian.PutUint64(s.block[:], s.n)
		s.left = s.block[:]
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// process is one of this repository's servers.
type process struct{ cmd *exec.Cmd }

// launch builds and starts a server, and waits until it answers at ready.
func launch(t *testing.T, command, ready string, env map[string]string) *process {
	t.Helper()
	binary := filepath.Join(t.TempDir(), command)
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "atcr.io/operator/appview/cmd/"+command)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s", said)

	var log bytes.Buffer
	cmd := exec.Command(binary, "serve")
	cmd.Env = os.Environ()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // ended by a signal
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s:\n%s", command, log.String())
		}
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(ready)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
	}, 30*time.Second, 20*time.Millisecond, "%s is not ready", command)
	return &process{cmd}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory, in bytes, that the process had resident at any time.
func (p *process) peak(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	m := highWater.FindSubmatch(status)
	require.NotNil(t, m)
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(t, err)
	return kib << 10
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := testenv.Port("127.0.0.1")
	require.NoError(t, err)
	return strconv.Itoa(port)
}
