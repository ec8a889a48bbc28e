package slow

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const idle = time.Second

// line is a connection in a bubble, whose bytes and deadlines are by the bubble's clock.
type line struct {
	http.ResponseWriter
	io.ReadCloser
	deadline time.Time
}

func (l *line) SetReadDeadline(t time.Time) error { l.deadline = t; return nil }

func (l *line) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if time.Now().After(l.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

// A body of ten pieces, each sent after half the idle time, takes five times as long as the deadline.
func TestABodyThatMovesIsReadHoweverLongItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(pause time.Duration) ([]byte, error) {
			pr, pw := io.Pipe()
			written := make(chan struct{})
			go func() {
				defer close(written)
				defer pw.Close()
				for range 10 {
					time.Sleep(pause)
					if _, err := pw.Write([]byte("piece")); err != nil {
						return
					}
				}
			}()
			defer func() { pr.Close(); <-written }()
			l := &line{ReadCloser: pr}
			return io.ReadAll(Reader(l, l, idle))
		}
		b, err := read(idle / 2)
		require.NoError(t, err)
		require.Equal(t, bytes.Repeat([]byte("piece"), 10), b)
		_, err = read(2 * idle)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestABodyThatStopsIsCutOff(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(Reader(w, r.Body, idle))
		got <- err
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	require.NoError(t, err)
	require.ErrorIs(t, <-got, os.ErrDeadlineExceeded)
}

// A hold may read a blob back for minutes after its last byte. A reader that asks once more whether that was the end
// must not start the clock again: net/http would take the connection for dead and cancel the request.
func TestTheDeadlineOfABodyEndsWithTheBody(t *testing.T) {
	for name, size := range map[string]int64{"with a length": 1000, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				body := Reader(w, req.Body, idle)
				n, err := io.Copy(io.Discard, body)
				<-time.After(idle / 4) // the last part goes to the hold
				again, end := body.Read(make([]byte, 1))
				if err != nil || n != 1000 || again != 0 || end != io.EOF {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				select {
				case <-req.Context().Done():
					w.WriteHeader(http.StatusGone)
				case <-time.After(2 * idle): // the hold completes the blob
				}
			}))
			t.Cleanup(s.Close)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL, bytes.NewReader(make([]byte, 1000)))
			require.NoError(t, err)
			req.ContentLength = size
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, http.StatusOK, resp.StatusCode)
		})
	}
}

func TestAReaderWhoStopsIsCutOff(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := io.Copy(Writer(w, idle), io.LimitReader(zeros{}, 1<<30))
		got <- err
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.ErrorIs(t, <-got, os.ErrDeadlineExceeded)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFilesOfManyChunksArriveWholeWithRanges(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), chunk/4) // 2.5 chunks
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(path)
		if err != nil {
			http.Error(w, "no file", http.StatusInternalServerError)
			return
		}
		defer f.Close()
		http.ServeContent(Writer(w, time.Minute), r, "", time.Time{}, f)
	}))
	defer srv.Close()
	for spec, want := range map[string][]byte{"": content, "bytes=5-": content[5:], "bytes=0-0": content[:1]} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		if spec != "" {
			req.Header.Set("Range", spec)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, b), spec)
	}
}
