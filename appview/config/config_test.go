package config

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
)

func load(kv ...string) (*Config, error) {
	return Load(append([]string{names.DefaultHoldDID + "=did:web:127.0.0.1:8080"}, kv...))
}

func TestStructDefaultsAndTableAgree(t *testing.T) {
	table := map[string]names.Variable{}
	for _, v := range names.AppView {
		table[v.Name] = v
	}
	fields := reflect.TypeFor[environment]()
	for i := range fields.NumField() {
		tag := fields.Field(i).Tag
		v, ok := table[tag.Get("env")]
		require.True(t, ok, "%s is not in names.AppView", tag.Get("env"))
		require.Equal(t, v.Default, tag.Get("envDefault"), v.Name)
		delete(table, v.Name)
	}
	require.Empty(t, table, "variables of names.AppView that are not read")
}

func TestTheSeedsMinimalConfiguration(t *testing.T) {
	c, err := load()
	require.NoError(t, err)
	require.Equal(t, "did:web:127.0.0.1%3A8080", c.DefaultHoldDID)
	require.Equal(t, "http://127.0.0.1:5000", c.BaseURL)
	require.Equal(t, "127.0.0.1", c.ServiceName)
	require.Equal(t, 5*time.Minute, c.TokenExpiration)
	require.True(t, c.UIEnabled)
	require.Empty(t, c.Warnings)
}

func TestBaseURLAndServiceNameAreDerived(t *testing.T) {
	for _, c := range []struct{ addr, base, wantBase, wantService string }{
		{":8080", "", "http://127.0.0.1:8080", "127.0.0.1"},
		{"0.0.0.0:5000", "", "http://127.0.0.1:5000", "127.0.0.1"},
		{"[::]:5000", "", "http://127.0.0.1:5000", "127.0.0.1"},
		{"10.1.2.3:5000", "", "http://10.1.2.3:5000", "10.1.2.3"},
		{":5000", "https://Registry.example.com/", "https://registry.example.com", "registry.example.com"},
		{":5000", "https://registry.example.com:8443", "https://registry.example.com:8443", "registry.example.com"},
	} {
		got, err := load(names.HTTPAddr+"="+c.addr, names.BaseURL+"="+c.base)
		require.NoError(t, err)
		require.Equal(t, c.wantBase, got.BaseURL)
		require.Equal(t, c.wantService, got.ServiceName)
	}
}

func TestEveryMistakeNamesVariableValueAndRemedy(t *testing.T) {
	for _, c := range []struct{ kv, says string }{
		{"ATCR_HTTP_ADDR=5000", "want host:port"},
		{"ATCR_HTTP_ADDR=:99999", "want host:port"},
		{"ATCR_TOKEN_EXPIRATION=5m", "whole number from 60 to 3600"},
		{"ATCR_TOKEN_EXPIRATION=59", "from 60 to 3600"},
		{"ATCR_TOKEN_EXPIRATION=3601", "from 60 to 3600"},
		{"ATCR_UI_ENABLED=yes please", "true or false"},
		{"ATCR_SHUTDOWN_DELAY=-1s", "duration such as 0s"},
		{"ATCR_LOG_LEVEL=loud", "debug, info, warn or error"},
		{"ATCR_LOG_FORMATTER=xml", "text or json"},
		{"ATCR_HEALTH_CHECK_INTERVAL=15", "such as 30s"},
		{"ATCR_BACKFILL_INTERVAL=-1h", "above zero"},
		{"JETSTREAM_URL=https://x", "wss://"},
		{"ATCR_DEFAULT_HOLD_DID=https://hold.example.com", "did:web:hostname"},
		{"ATCR_DEFAULT_HOLD_DID=did:web:host/path", "host"},
		{"ATCR_AUTH_KEY_TYPE=ed25519", "ecdsa or rsa"},
		{"ATCR_ALLOWED_PRIVATE_CIDRS=10.0.0.0", "such as 10.0.0.0/8"},
		{"ATCR_ALLOWED_PRIVATE_PORTS=0", "1 to 65535"},
		{"ATCR_SHUTDOWN_GRACE=soon", "duration"},
		{"ATCR_DATABASE_SSL_MODE=on", "verify-ca or verify-full"},
		{"ATCR_BACKUP_KEEP=0", "from 1 to 1000"},
		{"ATCR_BACKUP_INTERVAL=daily", "duration"},
		{"ATCR_BACKUP_INTERVAL=59s", "a minute or more"},
		{"ATCR_DATABASE_MAX_OPEN=1", "from 2 to 1000"},
		{"ATCR_DATABASE_MAX_IDLE=many", "from 1 to 1000"},
	} {
		_, err := load(c.kv)
		name, value, _ := strings.Cut(c.kv, "=")
		require.ErrorContains(t, err, name, c.kv)
		require.ErrorContains(t, err, value, c.kv)
		require.ErrorContains(t, err, c.says, c.kv)
	}
	_, err := Load(nil)
	require.ErrorContains(t, err, names.DefaultHoldDID)
	_, err = Load([]string{names.RuntimeFile + "=/etc/atcr/runtime/runtime.json"})
	require.NoError(t, err, "the runtime file may name the hold")
	_, err = load(names.DatabaseURL+"=postgres://h/d", names.DatabaseDir+"=/etc/atcr/database")
	require.ErrorContains(t, err, "two databases")
	_, err = load("ATCR_LOG_LEVEL=loud", "ATCR_LOG_FORMATTER=xml")
	require.ErrorContains(t, err, "ATCR_LOG_LEVEL")
	require.ErrorContains(t, err, "ATCR_LOG_FORMATTER", "all mistakes at once")
}

func TestSecretsAreNotRepeated(t *testing.T) {
	for _, kv := range []string{"ATCR_DATABASE_URL=mysql://u:s3cret@h/d", "ATCR_PLC_URL=https://u:s3cret@plc", "ATCR_BASE_URL=https://u:s3cret@h"} {
		_, err := load(kv)
		name, _, _ := strings.Cut(kv, "=")
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestVariablesThatDoNothingAreWarnedAbout(t *testing.T) {
	c, err := load("ATCR_BACKFILL_ENABLED=true", "ATCR_BASEURL=https://x", "ATCR_SERVICE_HOST=10.0.0.1", "ATCR_PORT_5000_TCP=x", "ATCR_UI_ENABLED=false", "TEST_MODE=true", "ATCR_OAUTH_KEY_PATH=")
	require.NoError(t, err)
	require.Len(t, c.Warnings, 4)
	require.Contains(t, c.Warnings[0], "ATCR_BACKFILL_ENABLED is set but not active yet")
	require.Contains(t, c.Warnings[1], "ATCR_BASEURL is not a variable")
	require.Contains(t, c.Warnings[2], "gone when it stops")
	require.Contains(t, c.Warnings[3], "TEST_MODE")
}

func TestAServerThatForgetsSaysSoAndGivesNoRefreshTokens(t *testing.T) {
	for environ, keeps := range map[string]bool{
		"":                     true,
		names.UIEnabled + "=0": false,
		names.UIEnabled + "=0 " + names.DatabaseURL + "=postgres://h/d": true,
		names.UIEnabled + "=0 " + names.DatabaseDir + "=/d":             true,
	} {
		c, err := load(strings.Fields(environ)...)
		require.NoError(t, err)
		require.Equal(t, keeps, c.RefreshTokens, environ)
		require.Equal(t, keeps, !strings.Contains(strings.Join(c.Warnings, " "), "gone when it stops"), environ)
	}
	c, err := load(names.RefreshTokens + "=false")
	require.NoError(t, err)
	require.False(t, c.RefreshTokens)
	require.Empty(t, c.Warnings)
}

// mount is a directory as a kubelet fills it: runtime.json -> ..data/runtime.json, ..data -> a dated directory.
type mount struct {
	t   *testing.T
	dir string
	n   int
}

func (m *mount) update(content string) {
	m.t.Helper()
	m.n++
	dated := filepath.Join(m.dir, "..2026_"+string(rune('a'+m.n)))
	require.NoError(m.t, os.Mkdir(dated, 0o755))
	require.NoError(m.t, os.WriteFile(filepath.Join(dated, names.FileRuntime), []byte(content), 0o644))
	require.NoError(m.t, os.Symlink(filepath.Base(dated), filepath.Join(m.dir, "..tmp")))
	require.NoError(m.t, os.Rename(filepath.Join(m.dir, "..tmp"), filepath.Join(m.dir, "..data")))
	if m.n == 1 {
		require.NoError(m.t, os.Symlink("..data/"+names.FileRuntime, m.path()))
	}
}

func (m *mount) path() string { return filepath.Join(m.dir, names.FileRuntime) }

func TestTheRuntimeFileIsReloadedAndABadOneIsNot(t *testing.T) {
	m := &mount{t: t, dir: t.TempDir()}
	m.update(`{"version":1,"defaultHoldDID":"did:web:hold.svc","holds":[{"did":"did:web:localhost:8080","endpoint":"http://10.0.0.9:8080/","download":"Proxy"}],"allowedHosts":["Node.local:5000"],"allowedPrivateCIDRs":["10.0.0.0/8"],"allowedPrivatePorts":[2583]}`)
	c, err := load(names.RuntimeFile+"="+m.path(), names.AllowedHosts+"=a.local, b.local", names.AllowedPrivateCIDRs+"=192.168.0.0/16")
	require.NoError(t, err)
	var logs syncBuffer
	r, err := OpenRuntime(c, slog.New(slog.NewTextHandler(&logs, nil)))
	require.NoError(t, err)
	s := r.Current()
	require.Equal(t, "did:web:hold.svc", s.DefaultHoldDID)
	h, ok := s.Hold("did:web:localhost:8080")
	require.True(t, ok)
	require.Equal(t, names.Hold{DID: "did:web:localhost%3A8080", Endpoint: "http://10.0.0.9:8080", Download: names.Proxy}, h)
	_, ok = s.Hold("did:web:hold.svc")
	require.True(t, ok, "the default hold is configured")
	_, ok = s.Hold("did:web:stranger.example.com")
	require.False(t, ok)
	require.Equal(t, []string{"a.local", "b.local", "node.local:5000"}, r.AllowedHosts())
	require.NoError(t, r.Policy().Check("pds.svc", netip.MustParseAddrPort("10.96.0.1:2583"), false))

	watch(t, r)
	m.update(`{"version":1,"allowedPrivateCIDRs":[]}`)
	require.Eventually(t, func() bool { return r.Current() != s }, time.Minute, 10*time.Millisecond)
	good := r.Current()
	require.Equal(t, "did:web:127.0.0.1%3A8080", good.DefaultHoldDID, "the environment's again")
	require.Error(t, r.Policy().Check("pds.svc", netip.MustParseAddrPort("10.96.0.1:2583"), false))

	for _, bad := range []string{`{`, `{"version":2}`, `{"version":1,"unknown":1}`, `{"version":1,"allowedPrivateCIDRs":["x"]}`, `{"version":1,"holds":[{"did":"did:web:a/b"}]}`,
		`{"version":1,"holds":[{"did":"did:web:a","endpoint":"http://a/path"}]}`, `{"version":1,"allowedPrivatePorts":[0]}`, `{"version":1,"defaultHoldDID":"x"}`} {
		before := strings.Count(logs.String(), "did not load")
		m.update(bad)
		require.Eventually(t, func() bool { return strings.Count(logs.String(), "did not load") > before }, time.Minute, 10*time.Millisecond, bad)
		require.Same(t, good, r.Current(), bad)
	}
	final := `{"version":1,"defaultHoldDID":"did:web:last.svc"}`
	m.update(final)
	require.Eventually(t, func() bool { return r.Current().Hash == names.RuntimeHash([]byte(final)) }, time.Minute, 10*time.Millisecond)
}

func TestABadRuntimeFileAtStartIsAnError(t *testing.T) {
	c, err := load(names.RuntimeFile + "=" + filepath.Join(t.TempDir(), "absent.json"))
	require.NoError(t, err)
	_, err = OpenRuntime(c, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, names.RuntimeFile)
}

func TestTheSealingKeyIsMadeOnceOrDemanded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth", "sealing.key")
	c, err := load(names.SealingKeyPath+"="+path, names.AuthKeyRequired+"=true")
	require.NoError(t, err)
	_, err = c.SealingKey()
	require.ErrorContains(t, err, names.SealingKeyPath)
	require.NoFileExists(t, path)

	c.AuthKeyRequired = false
	var wg sync.WaitGroup
	seen := make(chan string, 20)
	for range 20 { // replicas that start at once
		wg.Go(func() {
			k, err := c.SealingKey()
			if err != nil {
				t.Error(err)
				return
			}
			seen <- string(k.Derive("test"))
		})
	}
	wg.Wait()
	close(seen)
	first := <-seen
	for k := range seen {
		require.Equal(t, first, k, "all agree on one key")
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary files stay")

	require.NoError(t, os.WriteFile(path, []byte("AAAA"), 0o600))
	_, err = c.SealingKey()
	require.ErrorContains(t, err, names.SealingKeyPath)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// watch runs a watcher of r until the test ends. Polling is too rare to help: notifications must work.
func watch(t *testing.T, r *Runtime) {
	t.Helper()
	w := files.NewWatcher(time.Hour, slog.New(slog.DiscardHandler))
	r.Watch(w)
	done := make(chan struct{})
	go func() { defer close(done); w.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
}
