package testenv_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/test/testenv"
)

// reportVariable is where the test on the disk says that it runs, by a connection that ends with it.
const reportVariable = "ATCR_TEST_REPORT"

func TestATestOnASmallDiskDoesNotOutliveTheProcessThatStartedIt(t *testing.T) {
	if addr := os.Getenv(reportVariable); addr != "" {
		testenv.OnSmallDisk(t, 1<<20, func(t *testing.T, _ string) {
			conn, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, conn) // until it is killed, or nobody waits for that any more
		})
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	reports, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer reports.Close()
	var said bytes.Buffer
	starter := exec.CommandContext(t.Context(), self, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count=1")
	starter.Env = append(os.Environ(), reportVariable+"="+reports.Addr().String())
	starter.Stdout, starter.Stderr = &said, &said
	require.NoError(t, starter.Start())
	ended := make(chan struct{})
	go func() {
		_ = starter.Wait() // it is killed, or there is no disk
		reports.Close()
		close(ended)
	}()
	disk, err := reports.Accept()
	if err != nil {
		<-ended
		testenv.Missing(t, "a mount namespace", said.String())
	}
	defer disk.Close()
	require.NoError(t, starter.Process.Kill())
	<-ended
	require.NoError(t, disk.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = disk.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the test on the disk goes on")
}
