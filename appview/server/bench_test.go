package server_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/accesslog"
	"atcr.io/operator/appview/server/servertest"
)

// discarding is a ResponseWriter as cheap as can be: what is measured is the handler.
type discarding struct {
	header http.Header
	status int
}

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) WriteHeader(status int)      { d.status = status }
func (d *discarding) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkPull is what each request of a pull costs in our handlers, from the API listener's own to the caches, with
// the access log written to a file. net/http and the kernel cost as much again; test/bench measures all of it.
func BenchmarkPull(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	require.NoError(b, err)
	defer file.Close()
	w := servertest.Start(b, servertest.Options{Log: slog.New(accesslog.New(file, func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }))})
	blob := []byte("layer")
	d, config := push(b, w, app, blob), push(b, w, app, []byte("{}"))
	resp := putManifest(w, servertest.Alice, app, "v1", manifestOf(config, d, 2, len(blob)))
	require.Equal(b, http.StatusCreated, resp.StatusCode)
	manifest := resp.Header.Get("Docker-Content-Digest")
	token := w.Token("", "repository:"+app+":pull")
	for _, c := range []struct {
		name, method, path string
		status             int
	}{
		{"base", http.MethodGet, "/v2/", http.StatusOK},
		{"tag", http.MethodGet, "/v2/" + app + "/manifests/v1", http.StatusOK},
		{"digest", http.MethodGet, "/v2/" + app + "/manifests/" + manifest, http.StatusOK},
		{"blob", http.MethodGet, "/v2/" + app + "/blobs/" + string(d), http.StatusTemporaryRedirect},
		{"blob head", http.MethodHead, "/v2/" + app + "/blobs/" + string(d), http.StatusOK},
		{"tags", http.MethodGet, "/v2/" + app + "/tags/list", http.StatusOK},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			req := httptest.NewRequest(c.method, c.path, nil)
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("User-Agent", "containerd/v2.1.4")
			out := &discarding{header: http.Header{}}
			before := cpu(b)
			for b.Loop() {
				clear(out.header)
				out.status = 0
				w.AppView.Handler().ServeHTTP(out, req)
				if out.status != c.status && (out.status != 0 || c.status != http.StatusOK) {
					b.Fatal("status ", out.status)
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op") // says more than wall time on a busy machine
		})
	}
}

// BenchmarkToken is a token for an app password whose session lives: what clients ask for before each pull.
func BenchmarkToken(b *testing.B) {
	w := servertest.Start(b, servertest.Options{})
	req := httptest.NewRequest(http.MethodGet, "/auth/token?scope=repository:"+app+":pull,push", nil)
	req.SetBasicAuth(servertest.Alice, w.Account(servertest.Alice).AppPassword)
	out := &discarding{header: http.Header{}}
	before := int64(0)
	for b.Loop() {
		clear(out.header)
		out.status = 0
		w.AppView.Handler().ServeHTTP(out, req)
		if out.status != 0 && out.status != http.StatusOK {
			b.Fatal("status ", out.status)
		}
		if before == 0 { // the first has made the session
			before = cpu(b)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// BenchmarkPush is a blob of 1 MiB in two requests, as most clients push: what AppView, hold and PDS spend together, in
// one process, for two hashes of it among others.
func BenchmarkPush(b *testing.B) {
	w := servertest.Start(b, servertest.Options{})
	token := w.Token(servertest.Alice, "repository:"+app+":pull,push")
	send := func(method, path string, body []byte) *http.Response {
		req, err := http.NewRequestWithContext(b.Context(), method, w.URL+path, bytes.NewReader(body))
		require.NoError(b, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(b, err)
		resp.Body.Close()
		return resp
	}
	blob := make([]byte, 1<<20)
	before := cpu(b)
	for i := 0; b.Loop(); i++ {
		binary.BigEndian.PutUint64(blob, uint64(i))
		resp := send(http.MethodPost, "/v2/"+app+"/blobs/uploads/", nil)
		resp = send(http.MethodPut, resp.Header.Get("Location")+"?digest="+string(digest.FromBytes(blob)), blob)
		require.Equal(b, http.StatusCreated, resp.StatusCode)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpu is the processor time that this process has used, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}
