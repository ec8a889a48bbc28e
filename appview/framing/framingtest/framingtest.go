// Package framingtest sends servers requests, byte for byte: some that a proxy in front could read differently, and some that
// are answered before their end.
package framingtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// NeverTwo sends a server requests whose end can be found in two ways, each followed by one that a smuggler would want
// to be read, and requests that are none. It insists that at most one is answered, with a failure unless it is whole.
// upload is the request line and the headers of a request that has a body, each with its end of line; path is one that
// the server has.
func NeverTwo(t *testing.T, addr, upload, path string) {
	smuggled := "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"
	get := "GET " + path + " HTTP/1.1\r\n"
	for name, request := range map[string]string{
		"both lengths":            upload + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two lengths":             upload + "Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello" + smuggled,
		"a length with a sign":    upload + "Content-Length: +5\r\n\r\nhello" + smuggled,
		"a length below zero":     upload + "Content-Length: -1\r\n\r\n",
		"a length beyond 64 bits": upload + "Content-Length: 99999999999999999999\r\n\r\n",
		"another encoding":        upload + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two encodings":           upload + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"a space before a colon":  upload + "Content-Length : 5\r\n\r\nhello" + smuggled,
		"a chunk of no length":    upload + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
		"a chunk beyond 64 bits":  upload + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
		"no host":                 get + "\r\n",
		"two hosts":               get + "Host: a\r\nHost: b\r\n\r\n",
		"a header of 64 KiB":      get + "Host: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"a path of 64 KiB":        "GET " + path + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"an escape that is none":  "GET " + path + "%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"a method that is none":   "GE\x00T " + path + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"another protocol":        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		t.Run(name, func(t *testing.T) {
			answer := Exchange(t, addr, request)
			require.LessOrEqual(t, strings.Count(answer, "HTTP/1.1 "), 1, "a second request was read: %s", answer)
			if name == "both lengths" { // read by its chunks, as RFC 9112 has it; the connection ends with it
				require.Contains(t, answer, "\r\nConnection: close\r\n")
			} else if answer != "" {
				require.Regexp(t, `^HTTP/1.1 (4\d\d|501) `, answer)
			}
		})
	}
}

// Heard sends a request of which the server will not read all, to its end, before it reads the answer, and insists on all
// of that: its status, and what it says. head is the request line and the headers, without those about the body.
func Heard(t *testing.T, addr, head string, body []byte, status int, says string) {
	t.Helper()
	for _, request := range []net.Buffers{
		{fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n", head, len(body)), body},
		{fmt.Appendf(nil, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n", head, len(body)), body, []byte("\r\n0\r\n\r\n")},
	} {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = request.WriteTo(conn)
		require.NoError(t, err, "the server takes all of it")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, errors.Join(err, resp.Body.Close()))
		require.Equal(t, status, resp.StatusCode, "%s", answer)
		require.Contains(t, string(answer), says)
	}
}

// Exchange sends bytes and gives what comes until the server, which sees the end of them, hangs up.
func Exchange(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, request) // the server may hang up while it is sent
	_ = conn.(*net.TCPConn).CloseWrite() // or have hung up
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	answer, _ := io.ReadAll(conn) // what came before the server hung up
	return string(answer)
}
