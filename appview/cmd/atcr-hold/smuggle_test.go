package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/framing/framingtest"
)

func TestARequestThatTwoServersCouldReadDifferentlyIsNeverTwoAtAHold(t *testing.T) {
	p := newProcess(t)
	addr := strings.Replace(strings.TrimPrefix(p.url, "http://"), "localhost", "127.0.0.1", 1)
	framingtest.NeverTwo(t, addr, "POST /xrpc/io.atcr.hold.initiateUpload HTTP/1.1\r\nHost: x\r\n", "/xrpc/_health")
}

func TestARefusalOfAHoldIsHeardByAClientThatSendsAllOfItsBodyFirst(t *testing.T) {
	p := newProcess(t)
	addr := strings.Replace(strings.TrimPrefix(p.url, "http://"), "localhost", "127.0.0.1", 1)
	framingtest.Heard(t, addr, "PUT /xrpc/io.atcr.hold.uploadPart?upload=x HTTP/1.1\r\nHost: x\r\n", make([]byte, 64<<20), http.StatusForbidden, "ExpiredUrl")
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
	answer := framingtest.Exchange(t, addr, "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.Regexp(t, `^HTTP/1.1 200 `, answer)
	for _, conn := range slow {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(60*time.Second)))
		answer, err := io.ReadAll(conn)
		require.NoError(t, err, "the hold ends it")
		require.NotContains(t, string(answer), " 200 ")
	}
}
