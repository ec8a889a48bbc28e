package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/framing/framingtest"
	"atcr.io/operator/appview/oci/upload"
	"atcr.io/operator/appview/server/servertest"
)

const slowWriters = 2000

// heap is what the process uses, both ends of every connection in it.
func heap() int64 {
	var m runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// dial opens n connections and sends each the same bytes.
func dial(t *testing.T, addr string, n int, bytes string) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for worker := range 50 {
		wg.Go(func() {
			for i := worker; i < n; i += 50 {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					conns[i] = c
					_, err = io.WriteString(c, bytes)
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	require.NoError(t, failed)
	return conns
}

func TestManySlowWritersTakeLittleMemoryAndNobodyElsesUploads(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	token := w.Token(servertest.Alice, "repository:"+app+":pull,push")
	loc := start(t, w)
	before := heap()
	conns := dial(t, w.Host(), slowWriters, fmt.Sprintf(
		"PATCH %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\nx", loc, w.Host(), token))
	// All but the account's share are answered: at once, or because another request of the same upload was first.
	refused, enough := map[int]int{}, slowWriters-2*upload.MaxOpen
	open := map[net.Conn]*bufio.Reader{}
	for _, c := range conns {
		open[c] = bufio.NewReader(c)
	}
	for end := time.Now().Add(time.Minute); refused[429]+refused[416] < enough && time.Now().Before(end); {
		for c, in := range open {
			if refused[429]+refused[416] >= enough {
				break
			}
			require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			if _, err := in.Peek(1); err != nil {
				continue // it is among those that the server waits for, or has not come to yet
			}
			require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
			resp, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			resp.Body.Close()
			refused[resp.StatusCode]++
			delete(open, c)
		}
	}
	require.GreaterOrEqual(t, refused[429]+refused[416], enough, "%v", refused)
	require.Positive(t, refused[429], "%v", refused)
	delete(refused, 429)
	delete(refused, 416)
	require.Empty(t, refused, "no other answer")
	perConnection := (heap() - before) / slowWriters
	t.Logf("%d bytes of memory for each of %d slow writers", perConnection, slowWriters)
	require.Less(t, perConnection, int64(64<<10))

	bob := w.Do(servertest.Bob, http.MethodPost, "/v2/bob.test/app/blobs/uploads/", "bob.test/app", nil, nil)
	require.Equal(t, http.StatusAccepted, bob.StatusCode, "another account uploads")
	resp := w.Do(servertest.Bob, http.MethodPatch, bob.Header.Get("Location"), "bob.test/app", strings.NewReader("bytes"), nil)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
}

func TestConnectionsThatSendNoWholeHeaderTakeLittleMemoryAndAreCut(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	before := heap()
	conns := dial(t, w.Host(), slowWriters, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	perConnection := (heap() - before) / slowWriters
	t.Logf("%d bytes of memory for each of %d half headers", perConnection, slowWriters)
	require.Less(t, perConnection, int64(32<<10))
	require.NoError(t, conns[0].SetReadDeadline(time.Now().Add(30*time.Second)))
	answer, err := io.ReadAll(conns[0])
	require.NoError(t, err, "the server ends it")
	require.NotContains(t, string(answer), " 200 ")
}

func TestARequestThatTwoServersCouldReadDifferentlyIsNeverTwo(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	token := w.Token(servertest.Alice, "repository:"+app+":pull,push")
	loc := start(t, w)
	framingtest.NeverTwo(t, w.Host(), "PATCH "+loc+" HTTP/1.1\r\nHost: "+w.Host()+"\r\nAuthorization: Bearer "+token+"\r\n", "/v2/")
	resp := w.Do(servertest.Alice, http.MethodGet, loc, app, nil, nil)
	require.Equal(t, "0-0", resp.Header.Get("Range"), "nothing of them was kept")
}
