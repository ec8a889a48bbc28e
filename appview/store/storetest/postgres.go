package storetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/test/testenv"
)

// Cluster is a running PostgreSQL.
type Cluster struct {
	host string // address that it listens on
	port int
	dir  string
	bin  string
	cred *syscall.Credential // nobody when the tests run as root, which PostgreSQL refuses to
	set  []string            // settings over those for speed

	mu      sync.Mutex
	running *server
	made    int
}

// server is one life of the cluster's process.
type server struct {
	cmd   *exec.Cmd
	alive io.WriteCloser // the server ends when this is closed, also by the end of our process
	ended chan struct{}
}

const password = "p@ss:w/rd" // special on purpose: it must survive the URL, and never show in an error

var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Postgres is the cluster of this test process. It starts at the first call and ends, files and all, with the process.
// The test skips where there is no PostgreSQL.
func Postgres(t testing.TB) *Cluster {
	t.Helper()
	bin := binaries()
	if bin == "" {
		testenv.Missing(t, "PostgreSQL", "run hack/test/deps.sh, or install postgresql with your package manager")
	}
	shared.once.Do(func() { shared.cluster, shared.err = create(bin, loopback, nil) })
	require.NoError(t, shared.err)
	return shared.cluster
}

// Durable are the settings of a cluster that keeps what it has acknowledged, as everybody's but a test's does.
var Durable = []string{"fsync=on", "synchronous_commit=on", "full_page_writes=on", "autovacuum=on"}

// loopback is where clusters are that only the tests reach.
const loopback = "127.0.0.1"

// StartPostgres is a cluster of the test's own, to be stopped and started. Settings go over those that make tests fast.
func StartPostgres(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	return StartPostgresAt(t, loopback, settings...)
}

// StartPostgresAt is a cluster of the test's own that others reach at an address of this machine, with the password.
func StartPostgresAt(t testing.TB, address string, settings ...string) *Cluster {
	t.Helper()
	bin := binaries()
	if bin == "" {
		testenv.Missing(t, "PostgreSQL", "run hack/test/deps.sh, or install postgresql with your package manager")
	}
	c, err := create(bin, address, settings)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Stop()
		require.NoError(t, os.RemoveAll(c.dir))
	})
	return c
}

// binaries finds the folder with initdb and postgres, which Debian keeps out of PATH.
func binaries() string {
	if p, err := exec.LookPath("postgres"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is right
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// create makes a cluster and starts it.
func create(bin, address string, settings []string) (*Cluster, error) {
	c := &Cluster{bin: bin, host: address, set: settings}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.ParseUint(nobody.Uid, 10, 32) // numbers on every Unix
		gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
		c.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	var err error
	if c.dir, err = os.MkdirTemp("", "atcr-postgres-"); err != nil {
		return nil, err
	}
	if c.cred != nil {
		if err := os.Chown(c.dir, int(c.cred.Uid), int(c.cred.Gid)); err != nil {
			return nil, err
		}
	}
	pw := filepath.Join(c.dir, "pw")
	if err := os.WriteFile(pw, []byte(password), 0o644); err != nil {
		return nil, err
	}
	if c.port, err = testenv.Port(address); err != nil {
		return nil, err
	}
	// A locale that does not compare bytes, where there is one: lists must be in byte order all the same.
	initdb := c.command(filepath.Join(bin, "initdb"), "-D", c.data(), "-U", "atcr", "--auth=scram-sha-256", "--pwfile="+pw,
		"--encoding=UTF8", "--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if address != loopback {
		const everybody = "host all all all scram-sha-256\n"
		if err := appendTo(filepath.Join(c.data(), "pg_hba.conf"), everybody); err != nil {
			return nil, err
		}
	}
	return c, c.Start()
}

func appendTo(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred, Setpgid: true}
	return cmd
}

// Start starts a cluster that was stopped, and waits until it answers.
func (c *Cluster) Start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil {
		return errors.New("PostgreSQL is running")
	}
	// The shell outlives us for a moment when we are killed: its standard input ends, and it stops the server and
	// removes the files.
	script := `"$0" "$@" >log 2>&1 & pid=$!; read how; kill -INT $pid; wait $pid; [ "$how" = keep ] || { dir=$PWD; cd /; rm -rf "$dir"; }`
	cmd := c.command("/bin/sh", "-c", script, filepath.Join(c.bin, "postgres"), "-D", c.data(), "-p", strconv.Itoa(c.port),
		"-c", "listen_addresses="+c.host, "-c", "unix_socket_directories="+c.dir, "-c", "fsync=off", "-c", "synchronous_commit=off",
		"-c", "full_page_writes=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "autovacuum=off")
	for _, setting := range c.set {
		cmd.Args = append(cmd.Args, "-c", setting) // the last one of a name counts
	}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s := &server{cmd: cmd, alive: alive, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its log says why it ended
		close(s.ended)
	}()
	c.running = s
	return c.await(s)
}

func (c *Cluster) await(s *server) error {
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			out, _ := os.ReadFile(filepath.Join(c.dir, "log")) // better than nothing
			return fmt.Errorf("PostgreSQL did not start: %w: %s", err, out)
		}
		select {
		case <-s.ended:
			out, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("PostgreSQL ended: %s", out)
		case <-tick.C:
		}
	}
}

func (c *Cluster) try() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return c.exec(ctx, "SELECT 1")
}

// Stop ends the server at once, as an immediate failover does; its data stays for the next Start.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return
	}
	_, _ = io.WriteString(c.running.alive, "keep\n") // it may have ended
	c.running.alive.Close()
	<-c.running.ended
	c.running = nil
}

// ServeTLS gives the cluster a certificate for 127.0.0.1 that verifies itself, and restarts it. It returns the certificate.
func (c *Cluster) ServeTLS(t testing.TB) []byte {
	t.Helper()
	c.Stop()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{
		"server.crt": public, "server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		path := filepath.Join(c.data(), name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		if c.cred != nil {
			require.NoError(t, os.Chown(path, int(c.cred.Uid), int(c.cred.Gid)))
		}
	}
	conf, err := os.OpenFile(filepath.Join(c.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = conf.WriteString("ssl = on\n")
	require.NoError(t, errors.Join(err, conf.Close()))
	require.NoError(t, c.Start())
	return public
}

// Kill ends every process of the server by SIGKILL, as the kernel does with a container that has used too much memory:
// the next Start recovers what was acknowledged. It is Linux's /proc that knows the processes.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return errors.New("PostgreSQL is not running")
	}
	data, err := filepath.EvalSymlinks(c.data())
	if err != nil {
		return err
	}
	// Again until none is left: the postmaster may just have made another. Until all are gone, a new one refuses to start.
	for left := true; left; {
		left = false
		working, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			return err
		}
		for _, link := range working {
			if dir, err := os.Readlink(link); err != nil || dir != data {
				continue // another's, or gone
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if err != nil {
				return err
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
			left = true
		}
	}
	_, _ = io.WriteString(c.running.alive, "keep\n") // the shell waits for this
	c.running.alive.Close()
	<-c.running.ended
	c.running = nil
	return nil
}

// URL of a database of the cluster.
func (c *Cluster) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("atcr", password), Host: net.JoinHostPort(c.host, strconv.Itoa(c.port)),
		Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Port that it listens on.
func (c *Cluster) Port() int { return c.port }

// Password of the URL.
func (*Cluster) Password() string { return password }

// Database makes an empty database and gives its URL.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	c.mu.Lock()
	c.made++
	name := "t" + strconv.Itoa(c.made)
	c.mu.Unlock()
	require.NoError(t, c.exec(t.Context(), "CREATE DATABASE "+name))
	t.Cleanup(func() {
		if err := c.exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil && !strings.Contains(err.Error(), "connect") {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
	return c.URL(name)
}

func (c *Cluster) exec(ctx context.Context, statement string) error {
	db, err := sql.Open("pgx", c.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}
