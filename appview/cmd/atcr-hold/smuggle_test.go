package main

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestARequestThatTwoServersCouldReadDifferentlyIsNeverTwoAtAHold(t *testing.T) {
	p := newProcess(t)
	addr := strings.Replace(strings.TrimPrefix(p.url, "http://"), "localhost", "127.0.0.1", 1)
	const post, smuggled = "POST /xrpc/io.atcr.hold.initiateUpload HTTP/1.1\r\nHost: x\r\n", "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"both lengths":            post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two lengths":             post + "Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello" + smuggled,
		"a length with a sign":    post + "Content-Length: +5\r\n\r\nhello" + smuggled,
		"another encoding":        post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two encodings":           post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"a space before a colon":  post + "Content-Length : 5\r\n\r\nhello" + smuggled,
		"two hosts":               "GET /xrpc/_health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"no host":                 "GET /xrpc/_health HTTP/1.1\r\n\r\n",
		"a header of 64 KiB":      "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"a chunk of no length":    post + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
		"a length beyond 64 bits": post + "Content-Length: 99999999999999999999\r\n\r\n",
		"another protocol":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			defer conn.Close()
			_, _ = io.WriteString(conn, request) // the server may hang up while it is sent
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
			answer, _ := io.ReadAll(conn) // what came before the server hung up
			require.LessOrEqual(t, strings.Count(string(answer), "HTTP/1.1 "), 1, "a second request was read: %s", answer)
			if name == "both lengths" { // read by its chunks, as RFC 9112 has it; the connection ends with it
				require.Contains(t, string(answer), "\r\nConnection: close\r\n")
			}
			if len(answer) > 0 {
				require.Regexp(t, `^HTTP/1.1 (4\d\d|501) `, string(answer))
			}
		})
	}
}

// A client that sends no whole header is cut off, and while it waits the hold answers others.
func TestASlowClientOfAHoldIsCutOffAndDelaysNobody(t *testing.T) {
	p := newProcess(t)
	addr := strings.Replace(strings.TrimPrefix(p.url, "http://"), "localhost", "127.0.0.1", 1)
	var slow []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		require.NoError(t, err)
		slow = append(slow, conn)
	}
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Regexp(t, `^HTTP/1.1 200 `, string(answer))
	for _, conn := range slow {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(60*time.Second)))
		answer, err := io.ReadAll(conn)
		require.NoError(t, err, "the hold ends it")
		require.NotContains(t, string(answer), " 200 ")
	}
}
