package peers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/test/peers/referencepds"
	"atcr.io/operator/test/testenv"
)

const tapTimeout = 2 * time.Minute

// tapEvent is a record that indigo's tap has verified: the commit's signature by the key of the DID document, the tree,
// and that it follows the tree before.
type tapEvent struct {
	Record struct {
		Live                          bool
		DID, Collection, RKey, Action string
		Record                        object
	}
}

// Who is in a hold's crew is read by others from its firehose. Tap wants a did:web as the network has them: a plain
// name, by https. So the hold is hold.test here, and tap reaches it through a proxy of the test.
func TestTapFollowsTheCrewOfAHold(t *testing.T) {
	reference := referencepds.Start(t, referencepds.Options{})
	hold := startHold(t, reference, map[string]string{names.HoldPublicURL: "https://hold.test"})
	require.Equal(t, "did:web:hold.test", hold.did)
	tap := startTap(t, hold, reference.PLCURL)

	backfilled := map[string]bool{}
	for len(backfilled) < 2 {
		ev := tap.next()
		require.Equal(t, hold.did, ev.Record.DID)
		require.False(t, ev.Record.Live)
		backfilled[ev.Record.Collection] = true
	}
	require.Equal(t, map[string]bool{"io.atcr.hold.captain": true, "io.atcr.hold.crew": true}, backfilled)

	uri := hold.addCrew(t, reference, "alice.test", "bob.test", "blob:read")
	ev := tap.next()
	require.True(t, ev.Record.Live, "from the firehose, not by reading the repository again")
	require.Equal(t, "create", ev.Record.Action)
	require.Equal(t, "io.atcr.hold.crew", ev.Record.Collection)
	require.Equal(t, reference.Account(t, "bob.test").DID, ev.Record.Record["member"])

	rkey := uri[strings.LastIndexByte(uri, '/')+1:]
	call(t, http.MethodPost, hold.url+"/xrpc/com.atproto.repo.deleteRecord", hold.token(t, reference, "alice.test"),
		object{"repo": hold.did, "collection": "io.atcr.hold.crew", "rkey": rkey}, nil)
	ev = tap.next()
	require.True(t, ev.Record.Live)
	require.Equal(t, "delete", ev.Record.Action)
	require.Equal(t, rkey, ev.Record.RKey)
}

// tap is a running tap that follows everything its relay has.
type tap struct {
	t    *testing.T
	conn *websocket.Conn
}

// startTap runs tap with the hold in the place of a relay.
func startTap(t *testing.T, hold holdUnderTest, plc string) *tap {
	t.Helper()
	program := tapProgram(t)
	dir := t.TempDir()
	cert, proxy := publish(t, hold, dir)
	free, _ := listen(t)
	address := free.Addr().String()
	require.NoError(t, free.Close())

	cmd := exec.Command(program, "run", "--full-network", "--disable-acks", "--collection-filters", "io.atcr.hold.*",
		"--relay-url", hold.url, "--plc-url", plc, "--bind", address, "--db-url", "sqlite://"+filepath.Join(dir, "tap.db"))
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+cert, "HTTPS_PROXY="+proxy, "HTTP_PROXY="+proxy, "NO_PROXY=")
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	log := &tapLog{connected: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		log.follow(output)
		_ = cmd.Wait() // ended by a signal, or told by the log
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		if t.Failed() || os.Getenv("ATCR_TEST_LOG") != "" {
			t.Logf("tap:\n%s", log.text())
		}
	})
	select {
	case <-log.connected:
	case <-done:
		t.Fatalf("tap ended:\n%s", log.text())
	case <-time.After(tapTimeout):
		t.Fatalf("tap did not connect to the firehose:\n%s", log.text())
	}

	var conn *websocket.Conn
	require.Eventually(t, func() bool {
		var err error
		conn, _, err = websocket.Dial(t.Context(), "ws://"+address+"/channel", nil)
		return err == nil
	}, tapTimeout, 50*time.Millisecond)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &tap{t, conn}
}

// next waits for the next record.
func (p *tap) next() tapEvent {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), tapTimeout)
	defer cancel()
	for {
		_, raw, err := p.conn.Read(ctx)
		require.NoError(p.t, err, "no event of tap")
		var kind struct{ Type string }
		require.NoError(p.t, json.Unmarshal(raw, &kind))
		if kind.Type == "record" {
			var ev tapEvent
			require.NoError(p.t, json.Unmarshal(raw, &ev))
			return ev
		}
	}
}

// tapProgram is the path of the pinned tap.
func tapProgram(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "hack", "tool.sh"), "tap")
	out, err := cmd.Output()
	if err != nil {
		testenv.Missing(t, "indigo's tap", "`hack/tool.sh tap` builds it; it needs a C compiler")
	}
	return strings.TrimSpace(string(out))
}

// publish serves the hold by https as hold.test, and returns the certificate's file and a proxy that knows that name
// and no other.
func publish(t *testing.T, hold holdUnderTest, dir string) (cert, proxy string) {
	t.Helper()
	const name = "hold.test"
	certificate, file := selfSigned(t, name, dir)
	tls := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		forwarded, err := http.NewRequestWithContext(req.Context(), req.Method, hold.url+req.URL.RequestURI(), req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		res, err := http.DefaultClient.Do(forwarded)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}))
	tls.TLS = certificate
	tls.StartTLS()
	t.Cleanup(tls.Close)

	connect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect || req.Host != name+":443" {
			http.Error(w, "this proxy leads to the hold only", http.StatusForbidden)
			return
		}
		pipe(w, tls.Listener.Addr().String())
	}))
	t.Cleanup(connect.Close)
	return file, connect.URL
}

// pipe joins a CONNECT request with a connection to address.
func pipe(w http.ResponseWriter, address string) {
	there, err := net.Dial("tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	for _, ends := range [][2]net.Conn{{here, there}, {there, here}} {
		both.Go(func() {
			_, _ = io.Copy(ends[0], ends[1])
			_ = ends[0].Close()
		})
	}
	both.Wait()
}

// tapLog is what tap says, for when it fails.
type tapLog struct {
	connected chan struct{}
	once      sync.Once
	mu        sync.Mutex
	said      strings.Builder
}

func (l *tapLog) follow(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		l.mu.Lock()
		l.said.WriteString(lines.Text() + "\n")
		l.mu.Unlock()
		if strings.Contains(lines.Text(), "connected to firehose") {
			l.once.Do(func() { close(l.connected) })
		}
	}
}

func (l *tapLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.String()
}
