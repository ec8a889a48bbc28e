// Package s3test starts a real S3-compatible server (versitygw, built from its Go module) on loopback for tests.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/test/testenv"
)

// Server is a running S3 server, stopped and removed when its test ends.
type Server struct {
	Endpoint  string // http://127.0.0.1:port
	Region    string
	AccessKey string
	SecretKey string
}

// Start runs a server on an empty folder and waits until it answers. Where its binary cannot be built the test is
// skipped, and fails in CI (CI=true).
func Start(tb testing.TB) *Server {
	tb.Helper()
	binary, err := findBinary()
	if err != nil {
		reason := "the S3 server cannot be had: " + err.Error()
		if os.Getenv("CI") == "true" {
			tb.Fatal(reason)
		}
		tb.Skip(reason)
	}
	s := &Server{Region: "us-east-1", AccessKey: "test", SecretKey: randomHex()}
	var lastErr error
	for range 5 { // another process may take the port between our look and the server's bind
		if lastErr = s.run(tb, binary); lastErr == nil {
			return s
		}
	}
	tb.Fatalf("the S3 server does not start: %v", lastErr)
	return nil
}

// HoldEnv are the variables of a hold that keeps its blobs here, in a bucket of its own.
func (s *Server) HoldEnv(tb testing.TB) map[string]string {
	tb.Helper()
	return map[string]string{
		names.StorageDriver: "s3", names.S3Endpoint: s.Endpoint, names.S3Bucket: s.Bucket(tb), names.AWSRegion: s.Region,
		names.AWSAccessKeyID: s.AccessKey, names.AWSSecretAccessKey: s.SecretKey,
	}
}

// Bucket makes a bucket of its own for a test.
func (s *Server) Bucket(tb testing.TB) string {
	tb.Helper()
	name := "test-" + randomHex()[:16]
	if err := s.client(tb).MakeBucket(context.Background(), name, minio.MakeBucketOptions{Region: s.Region}); err != nil {
		tb.Fatalf("make a bucket: %v", err)
	}
	return name
}

// Keys lists the objects of a bucket.
func (s *Server) Keys(tb testing.TB, bucket string) []string {
	tb.Helper()
	keys := []string{}
	for obj := range s.client(tb).ListObjectsIter(context.Background(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if obj.Err != nil {
			tb.Fatalf("list the bucket: %v", obj.Err)
		}
		keys = append(keys, obj.Key)
	}
	return keys
}

// Put writes an object, past whoever uses the bucket.
func (s *Server) Put(tb testing.TB, bucket, key string, b []byte) {
	tb.Helper()
	if _, err := s.client(tb).PutObject(context.Background(), bucket, key, bytes.NewReader(b), int64(len(b)), minio.PutObjectOptions{}); err != nil {
		tb.Fatalf("put an object: %v", err)
	}
}

func (s *Server) client(tb testing.TB) *minio.Client {
	tb.Helper()
	c, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// run starts the server on a free port; its process ends with the test, or with this process.
func (s *Server) run(tb testing.TB, binary string) error {
	port, err := testenv.Port("127.0.0.1")
	if err != nil {
		return err
	}
	addr := fmt.Sprint("127.0.0.1:", port)
	dir := tb.TempDir()
	var log bytes.Buffer
	cmd := exec.Command(binary, "--port", addr, "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the thread that started the process ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	s.Endpoint = "http://" + addr
	if err := waitReady(s.Endpoint, ended); err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("%w; its output: %s", err, log.String())
	}
	return nil
}

// waitReady polls until the server answers HTTP, as only it can on that port while its process lives.
func waitReady(endpoint string, ended <-chan struct{}) error {
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return errors.New("the process ended")
		case <-deadline:
			return errors.New("no answer within 30 s")
		case <-tick.C:
			resp, err := http.Get(endpoint)
			if err == nil {
				resp.Body.Close()
				return nil
			}
		}
	}
}

// findBinary asks hack/tool.sh for the server's binary; the first time that builds it, which takes minutes.
func findBinary() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the test")
		}
		dir = parent
	}
	cmd := exec.Command(filepath.Join(dir, "hack", "tool.sh"), "versitygw")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("hack/tool.sh versitygw: %w: %s", err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func randomHex() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, see its documentation
	return hex.EncodeToString(b)
}
