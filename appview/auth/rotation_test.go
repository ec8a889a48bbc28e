package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
)

// mount is a directory of key files that somebody else replaces.
type mount struct {
	dir  string
	kube bool // as a kubelet does: ..data -> a dated directory, swapped by one rename
	n    int
}

func (m *mount) write(t *testing.T, content map[string][]byte) {
	t.Helper()
	m.n++
	if !m.kube {
		for _, name := range []string{names.FileJWKS, names.FileSigningCert, names.FileSigningKey} { // a key is published before it signs
			if _, there := content[name]; !there {
				continue
			}
			path := filepath.Join(m.dir, name)
			require.NoError(t, os.WriteFile(path+".new", content[name], 0o600))
			require.NoError(t, os.Rename(path+".new", path))
		}
		return
	}
	dated := fmt.Sprintf("..2026_%d", m.n)
	require.NoError(t, os.Mkdir(filepath.Join(m.dir, dated), 0o700))
	for name, b := range content {
		require.NoError(t, os.WriteFile(filepath.Join(m.dir, dated, name), b, 0o600))
		if m.n == 1 {
			require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)))
		}
	}
	old, _ := os.Readlink(filepath.Join(m.dir, "..data")) // none the first time
	require.NoError(t, os.Symlink(dated, filepath.Join(m.dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")))
	if old != "" {
		require.NoError(t, os.RemoveAll(filepath.Join(m.dir, old)))
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return k
}

// content are the files of one step: the key that signs, and all that verify.
func content(t *testing.T, signs *ecdsa.PrivateKey, verify ...*ecdsa.PrivateKey) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(signs)
	require.NoError(t, err)
	var set jose.JSONWebKeySet
	for _, k := range verify {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public()})
	}
	b, err := json.Marshal(set)
	require.NoError(t, err)
	return map[string][]byte{names.FileSigningKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), names.FileJWKS: b}
}

// certificate is the one that a server makes for a key.
func certificate(t *testing.T, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	dir := t.TempDir()
	f := auth.KeyFiles{KeyPath: filepath.Join(dir, names.FileSigningKey), CertPath: filepath.Join(dir, names.FileSigningCert), Service: service}
	require.NoError(t, os.WriteFile(f.KeyPath, content(t, k)[names.FileSigningKey], 0o600))
	_, err := auth.OpenKeys(f, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	b, err := os.ReadFile(f.CertPath)
	require.NoError(t, err)
	return b
}

// rotating is a token endpoint and something that wants tokens, over HTTP, with keys from a mount.
type rotating struct {
	*httptest.Server
	keys *auth.Keys
	log  *logBuffer
}

func newRotating(t *testing.T, m *mount) *rotating {
	t.Helper()
	r := &rotating{log: &logBuffer{}}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	r.keys, err = auth.OpenKeys(auth.KeyFiles{KeyPath: filepath.Join(m.dir, names.FileSigningKey), CertPath: filepath.Join(m.dir, names.FileSigningCert),
		Service: service, Required: true}, log)
	require.NoError(t, err)
	w := files.NewWatcher(time.Hour, log) // by notification, not by polling
	r.keys.Watch(w)
	watched := make(chan struct{})
	go func() { defer close(watched); w.Run(t.Context()) }()
	t.Cleanup(func() { <-watched })
	verifier := auth.NewVerifier(r.keys, service, time.Now)
	mux := http.NewServeMux()
	mux.Handle(auth.TokenPath, &auth.Handler{Issuer: &auth.Issuer{Keys: r.keys, Service: service, Life: 5 * time.Minute, Now: time.Now}, Logger: log})
	mux.Handle("/auth/jwks.json", r.keys)
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := verifier.FromRequest(r); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
		}
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *rotating) token() (string, error) {
	resp, err := r.Client().Get(r.URL + auth.TokenPath)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	return a.Token, nil
}

func (r *rotating) use(token string) (int, error) {
	req, err := http.NewRequest(http.MethodGet, r.URL+"/v2/", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := r.Client().Do(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// load sends requests until stop: each worker fetches a token when the round changes, and uses it until the next.
type load struct {
	round    atomic.Int64
	reached  []atomic.Int64 // round of each worker's token
	requests atomic.Int64
	stop     chan struct{}
	done     sync.WaitGroup
}

func (l *load) start(t *testing.T, r *rotating) {
	for i := range l.reached {
		l.done.Go(func() {
			token, mine := "", int64(-1)
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				if now := l.round.Load(); now != mine {
					var err error
					if token, err = r.token(); err != nil {
						t.Errorf("no token: %v", err)
						return
					}
					mine = now
				}
				status, err := r.use(token)
				if err != nil || status != http.StatusOK {
					t.Errorf("a good token of round %d was answered %d %v", mine, status, err)
					return
				}
				l.requests.Add(1)
				l.reached[i].Store(mine)
			}
		})
	}
}

// next has every worker fetch a new token: the old ones have expired, so to speak.
func (l *load) next(t *testing.T) {
	t.Helper()
	now := l.round.Add(1)
	require.Eventually(t, func() bool {
		for i := range l.reached {
			if l.reached[i].Load() < now {
				return t.Failed()
			}
		}
		return true
	}, time.Minute, time.Millisecond)
}

func TestTwentyRotationsRefuseNoGoodToken(t *testing.T) {
	for _, kube := range []bool{false, true} {
		t.Run(map[bool]string{false: "files replaced one by one", true: "a ..data symlink swapped"}[kube], func(t *testing.T) {
			m := &mount{dir: t.TempDir(), kube: kube}
			current := newKey(t)
			m.write(t, content(t, current, current))
			r := newRotating(t, m)
			loaded := func(keys int, signs *ecdsa.PrivateKey) {
				t.Helper()
				require.Eventually(t, func() bool {
					s := r.keys.Set()
					return len(s.KIDs()) == keys && s.SignerKID() == kidOf(t, signs)
				}, time.Minute, time.Millisecond)
			}
			l := &load{reached: make([]atomic.Int64, 4), stop: make(chan struct{})}
			l.start(t, r)
			l.next(t)
			for range 20 {
				next := newKey(t)
				m.write(t, content(t, current, current, next)) // published before it signs
				loaded(2, current)
				m.write(t, content(t, next, next, current)) // signs; the old one is retired
				loaded(2, next)
				l.next(t)                          // tokens of the old one have run out
				m.write(t, content(t, next, next)) // gone
				loaded(1, next)
				current = next
			}
			l.next(t)
			close(l.stop)
			l.done.Wait()
			require.Greater(t, l.requests.Load(), int64(80))
			t.Log(l.requests.Load(), "requests over 20 rotations")
		})
	}
}

func kidOf(t *testing.T, k *ecdsa.PrivateKey) string {
	t.Helper()
	set, err := auth.NewKeySet(content(t, k)[names.FileSigningKey], nil, nil)
	require.NoError(t, err)
	return set.SignerKID()
}

func TestARevokedKeyEndsItsTokensAtOnce(t *testing.T) {
	m := &mount{dir: t.TempDir(), kube: true}
	first, second := newKey(t), newKey(t)
	m.write(t, content(t, first, first))
	r := newRotating(t, m)
	token, err := r.token()
	require.NoError(t, err)
	status, err := r.use(token)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "and it is remembered now")
	m.write(t, content(t, second, second))
	require.Eventually(t, func() bool { status, err := r.use(token); return err == nil && status == http.StatusUnauthorized }, time.Minute, time.Millisecond)
}

func TestKeyFilesThatDoNotLoadLeaveTheLastGoodOnes(t *testing.T) {
	m := &mount{dir: t.TempDir()}
	old, key := newKey(t), newKey(t)
	m.write(t, content(t, old, old))
	r := newRotating(t, m)
	var failed atomic.Int32
	r.keys.Observe(func(err error) {
		if err != nil {
			failed.Add(1)
		}
	})
	token, err := r.token()
	require.NoError(t, err)
	whole := content(t, key, key)
	whole[names.FileSigningCert] = certificate(t, old)
	m.write(t, whole)
	require.Eventually(t, func() bool { return r.keys.Set().SignerKID() == kidOf(t, key) }, time.Minute, time.Millisecond)
	good := r.keys.Set()
	with := func(name string, b []byte) map[string][]byte {
		c := maps.Clone(whole)
		c[name] = b
		return c
	}
	bundle := whole[names.FileSigningCert]
	for why, bad := range map[string]map[string][]byte{
		"half a key":             with(names.FileSigningKey, whole[names.FileSigningKey][:60]),
		"an empty key":           with(names.FileSigningKey, nil),
		"half a JWK set":         with(names.FileJWKS, []byte(`{"keys":[{"kty`)),
		"an empty JWK set":       with(names.FileJWKS, nil),
		"an empty bundle":        with(names.FileSigningCert, nil),
		"half a bundle":          with(names.FileSigningCert, bundle[:len(bundle)/2]),
		"a key of another curve": with(names.FileSigningKey, []byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n")),
	} {
		before := failed.Load()
		m.write(t, bad)
		require.Eventually(t, func() bool { return failed.Load() > before }, time.Minute, time.Millisecond, why)
		require.Same(t, good, r.keys.Set(), why)
		status, err := r.use(token)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, why)
		_, err = r.token()
		require.NoError(t, err, why)
	}
	require.Contains(t, r.log.String(), "the last good ones stay")
	require.NotContains(t, r.log.String(), "PRIVATE KEY")
	next := newKey(t)
	last := content(t, next, next, key)
	last[names.FileSigningCert] = bundle
	m.write(t, last)
	require.Eventually(t, func() bool { return len(r.keys.Set().KIDs()) == 3 }, time.Minute, time.Millisecond, "and a good one is taken again")
	require.True(t, strings.Contains(r.log.String(), "token keys loaded"))
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
