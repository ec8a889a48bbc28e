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
	refused := map[int]int{}
	for _, c := range conns {
		if refused[429]+refused[416] == slowWriters-2*upload.MaxOpen {
			break
		}
		require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			continue // it is among those that the server waits for
		}
		resp.Body.Close()
		refused[resp.StatusCode]++
	}
	require.GreaterOrEqual(t, refused[429]+refused[416], slowWriters-2*upload.MaxOpen, "%v", refused)
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
	auth := "Host: " + w.Host() + "\r\nAuthorization: Bearer " + token + "\r\n"
	smuggled := "GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"both lengths":            "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two lengths":             "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello" + smuggled,
		"a length with a sign":    "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Content-Length: +5\r\n\r\nhello" + smuggled,
		"another encoding":        "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two encodings":           "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"a space before a colon":  "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Content-Length : 5\r\n\r\nhello" + smuggled,
		"no host":                 "GET /v2/ HTTP/1.1\r\n\r\n",
		"two hosts":               "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"a header of 64 KiB":      "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"a path of 64 KiB":        "GET /v2/" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"a chunk of no length":    "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
		"a chunk beyond 64 bits":  "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
		"an escape that is none":  "GET /v2/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"a method that is none":   "GE\x00T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"another protocol":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"a length below zero":     "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Content-Length: -1\r\n\r\n",
		"a length beyond 64 bits": "PATCH " + loc + " HTTP/1.1\r\n" + auth + "Content-Length: 99999999999999999999\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", w.Host())
			require.NoError(t, err)
			defer conn.Close()
			_, _ = io.WriteString(conn, request) // the server may hang up while it is sent
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
			answer, _ := io.ReadAll(conn) // what came before the server hung up
			require.LessOrEqual(t, strings.Count(string(answer), "HTTP/1.1 "), 1, "a second request was read: %s", answer)
			if name == "both lengths" { // read by its chunks, as RFC 9112 has it; the connection ends with it
				require.Contains(t, string(answer), "\r\nConnection: close\r\n")
			} else if len(answer) > 0 {
				require.Regexp(t, `^HTTP/1.1 (4\d\d|501) `, string(answer))
			}
		})
	}
	resp := w.Do(servertest.Alice, http.MethodGet, loc, app, nil, nil)
	require.Equal(t, "0-0", resp.Header.Get("Range"), "nothing of them was kept")
}
