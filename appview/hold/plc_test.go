package hold_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/plc"
	"atcr.io/operator/appview/hold"
)

func onPLC(c *hold.Config) { c.DIDMethod = "plc" }

// lastOperation is what the PLC directory knows of the hold.
func (w *world) lastOperation() plc.Operation {
	w.t.Helper()
	op, err := plc.Client{URL: w.net.URL(), HTTP: http.DefaultClient}.Last(w.t.Context(), w.hold.DID())
	require.NoError(w.t, err)
	return op
}

func TestAHoldWithADidPLC(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { onPLC(c); c.Public = true })
	did := w.hold.DID()
	require.Equal(t, "plc", did.Method())
	require.Equal(t, "did:plc", did.String()[:7])

	doc, err := diddoc.Parse(w.send(http.MethodGet, w.net.URL()+"/"+did.String(), "", nil).body)
	require.NoError(t, err)
	own, err := diddoc.FetchWebDocument(t.Context(), diddoc.NewClient(diddoc.Policy{DevLoopback: true}, diddoc.Options{}), did.String(), w.url)
	require.NoError(t, err, "the hold itself serves the document too")
	for _, d := range []*diddoc.Document{doc, own} {
		require.Equal(t, did.String(), d.ID)
		require.Equal(t, []string{"at://" + strings.TrimPrefix(w.url, "http://")}, d.AlsoKnownAs)
		for _, endpoint := range []func(*diddoc.Document) (string, error){diddoc.HoldEndpoint, diddoc.PDSEndpoint} {
			got, err := endpoint(d)
			require.NoError(t, err)
			require.Equal(t, w.url, got)
		}
	}
	_, key, _ := diddoc.SigningKey(doc)
	_, ownKey, _ := diddoc.SigningKey(own)
	require.Equal(t, ownKey, key)
	require.Equal(t, did.String(), string(w.send(http.MethodGet, w.url+"/.well-known/atproto-did", "", nil).body))

	// Service tokens are for this DID, and for no other spelling of the hold.
	w.addCrew(bob, "blob:write")
	d := w.push(bob, []byte("x"))
	require.Equal(t, "x", string(w.pull(nobody, bob, d, nil).body))
	for _, r := range w.records("io.atcr.hold.crew") {
		require.True(t, strings.HasPrefix(r.URI, "at://"+did.String()+"/"), r.URI)
	}

	for _, name := range []string{"hold.key", "rotation.key", "did.txt"} {
		info, err := os.Stat(filepath.Join(w.cfg.DatabaseDir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	before := w.lastOperation()
	w.restart(nil)
	require.Equal(t, did, w.hold.DID())
	require.Equal(t, before, w.lastOperation(), "a restart without changes writes nothing")
}

func TestAMovedHoldKeepsItsDidPLC(t *testing.T) {
	w := newWorld(t, onPLC)
	did, first := w.hold.DID(), w.lastOperation()
	moved := strings.Replace(w.url, "localhost", "127.0.0.1", 1)
	w.restart(func(c *hold.Config) { c.PublicURL = moved })
	w.url = moved
	require.Equal(t, did, w.hold.DID())
	last := w.lastOperation()
	require.Equal(t, moved, last.Services[diddoc.ServicePDS].Endpoint)
	require.Equal(t, moved, last.Services[diddoc.ServiceHold].Endpoint)
	require.Equal(t, []string{"at://" + strings.TrimPrefix(moved, "http://")}, last.AlsoKnownAs)
	prev, err := first.CID()
	require.NoError(t, err)
	require.Equal(t, prev, *last.Prev)
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)

	// The firehose says that the document changed.
	conn := w.subscribe("?cursor=0")
	seen := 0
	for seen < 2 { // the one of the first start, and the one of the move
		if bytes.Contains(readFrame(t, conn), []byte("#identity")) {
			seen++
		}
	}
}

// subscribe opens the hold's firehose.
func (w *world) subscribe(query string) *websocket.Conn {
	w.t.Helper()
	conn, _, err := websocket.Dial(w.t.Context(), strings.Replace(w.url, "http://", "ws://", 1)+"/xrpc/com.atproto.sync.subscribeRepos"+query, nil)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(4 << 20)
	return conn
}

func readFrame(t *testing.T, conn *websocket.Conn) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, frame, err := conn.Read(ctx)
	require.NoError(t, err)
	return frame
}

func TestANewSigningKeyIsInTheDocumentAndSignsTheRepository(t *testing.T) {
	w := newWorld(t, onPLC)
	did := w.hold.DID()
	w.restart(func(c *hold.Config) { require.NoError(t, os.Remove(filepath.Join(c.DatabaseDir, "hold.key"))) })
	require.Equal(t, did, w.hold.DID())
	key, err := atcrypto.ParsePublicDIDKey(w.lastOperation().VerificationMethods[diddoc.KeyAtproto])
	require.NoError(t, err)
	commit, _, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(w.query(nobody, "com.atproto.sync.getRepo", url.Values{"did": {did.String()}}).body))
	require.NoError(t, err)
	require.NoError(t, commit.VerifySignature(key))
}

func TestADirectoryNeverGetsASecondDID(t *testing.T) {
	w := newWorld(t, onPLC)
	did := w.hold.DID()
	open := func(change func(*hold.Config)) error {
		cfg := w.cfg
		change(&cfg)
		h, err := hold.New(t.Context(), cfg, w.deps)
		if err == nil {
			require.Equal(t, did, h.DID())
			return h.Close(t.Context())
		}
		return err
	}
	w.close()
	require.ErrorContains(t, open(func(c *hold.Config) { c.DIDMethod = "web" }), "belongs to "+did.String())
	require.ErrorContains(t, open(func(c *hold.Config) { c.DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }), "HOLD_DID")
	require.NoError(t, open(func(c *hold.Config) { c.DID = did.String() }))

	// The repository alone says whose it is.
	for _, name := range []string{"did.txt", "plc-genesis.json", "rotation.key"} {
		require.NoError(t, os.Remove(filepath.Join(w.cfg.DatabaseDir, name)))
	}
	require.NoError(t, open(func(*hold.Config) {}), "without changes no rotation key is needed")
	require.ErrorContains(t, open(func(c *hold.Config) { c.PublicURL = "https://elsewhere.example.com" }), "rotation key")
	require.NoFileExists(t, filepath.Join(w.cfg.DatabaseDir, "rotation.key"))
}

func TestADidWebCannotBecomeADidPLC(t *testing.T) {
	w := newWorld(t, nil)
	w.close()
	cfg := w.cfg
	onPLC(&cfg)
	_, err := hold.New(t.Context(), cfg, w.deps)
	require.ErrorContains(t, err, "HOLD_DID_METHOD=web")
	require.NoFileExists(t, filepath.Join(w.cfg.DatabaseDir, "rotation.key"))
}

func TestTheRotationKeyMustBeOneOfTheDocument(t *testing.T) {
	w := newWorld(t, onPLC)
	w.close()
	stranger, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(w.cfg.DatabaseDir, "rotation.key"), []byte(stranger.Multibase()), 0o600))
	cfg := w.cfg
	cfg.PublicURL = "https://elsewhere.example.com"
	_, err = hold.New(t.Context(), cfg, w.deps)
	require.ErrorContains(t, err, "none of its rotation keys")
}

func TestWhatOthersPutIntoTheDocumentStays(t *testing.T) {
	w := newWorld(t, onPLC)
	raw, err := os.ReadFile(filepath.Join(w.cfg.DatabaseDir, "rotation.key"))
	require.NoError(t, err)
	rotation, err := atcrypto.ParsePrivateMultibase(strings.TrimSpace(string(raw)))
	require.NoError(t, err)
	recovery, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	recoveryPub, err := recovery.PublicKey()
	require.NoError(t, err)
	last := w.lastOperation()
	prev, err := last.CID()
	require.NoError(t, err)
	last.Prev = &prev
	last.RotationKeys = append([]string{recoveryPub.DIDKey()}, last.RotationKeys...)
	last.AlsoKnownAs = append(last.AlsoKnownAs, "https://example.com/me")
	last.Services["other"] = plc.Service{Type: "Other", Endpoint: "https://other.example.com"}
	require.NoError(t, last.Sign(rotation))
	directory := plc.Client{URL: w.net.URL(), HTTP: http.DefaultClient}
	require.NoError(t, directory.Submit(t.Context(), w.hold.DID(), last))

	w.restart(func(c *hold.Config) { c.PublicURL = strings.Replace(w.url, "localhost", "127.0.0.1", 1) })
	now := w.lastOperation()
	require.Equal(t, last.RotationKeys, now.RotationKeys)
	require.Equal(t, last.Services["other"], now.Services["other"])
	require.Contains(t, now.AlsoKnownAs, "https://example.com/me")
}

// flaky is a PLC directory that fails in a chosen way.
type flaky struct {
	*httptest.Server
	mode atomic.Value
}

const (
	works       = "works"
	down        = "down"
	loseAnswers = "takes operations and loses the answers"
)

func newFlaky(t *testing.T, target string) *flaky {
	f := &flaky{}
	f.mode.Store(works)
	u, err := url.Parse(target)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(u)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch f.mode.Load() {
		case down:
			w.WriteHeader(http.StatusServiceUnavailable)
		case loseAnswers:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusBadGateway)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func TestAStartThatWasCutOffRegistersTheSameDIDAgain(t *testing.T) {
	for _, mode := range []string{down, loseAnswers} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, nil) // its hold is not the one of this test
			directory := newFlaky(t, w.net.URL())
			cfg := w.cfg
			onPLC(&cfg)
			cfg.DatabaseDir, cfg.PLCURL = t.TempDir(), directory.URL

			directory.mode.Store(mode)
			_, err := hold.New(t.Context(), cfg, w.deps)
			require.ErrorContains(t, err, "PLC directory")
			raw, err := os.ReadFile(filepath.Join(cfg.DatabaseDir, "plc-genesis.json"))
			require.NoError(t, err)
			var genesis plc.Operation
			require.NoError(t, json.Unmarshal(raw, &genesis))
			want, err := genesis.DID()
			require.NoError(t, err)

			directory.mode.Store(works)
			h, err := hold.New(t.Context(), cfg, w.deps)
			require.NoError(t, err)
			require.Equal(t, want, h.DID())
			require.NoError(t, h.Close(t.Context()))
		})
	}
}

func TestWithoutTheDirectoryAKnownHoldStartsAndCatchesUp(t *testing.T) {
	w := newWorld(t, onPLC)
	did := w.hold.DID()
	directory := newFlaky(t, w.net.URL())
	directory.mode.Store(down)
	moved := strings.Replace(w.url, "localhost", "127.0.0.1", 1)
	w.restart(func(c *hold.Config) { c.PLCURL, c.PublicURL = directory.URL, moved })
	require.Equal(t, did, w.hold.DID())
	require.Equal(t, w.url, w.lastOperation().Services[diddoc.ServicePDS].Endpoint)

	directory.mode.Store(works)
	require.Eventually(t, func() bool { return w.lastOperation().Services[diddoc.ServicePDS].Endpoint == moved }, 30*time.Second, 20*time.Millisecond)

	// But with a key that the document does not name, nobody would believe its commits.
	w.close()
	directory.mode.Store(down)
	require.NoError(t, os.Remove(filepath.Join(w.cfg.DatabaseDir, "hold.key")))
	_, err := hold.New(t.Context(), w.cfg, w.deps)
	require.ErrorIs(t, err, plc.ErrUnavailable)
}

func TestAnExistingDIDOnANewDirectory(t *testing.T) {
	w := newWorld(t, onPLC)
	did := w.hold.DID()
	w.close()
	cfg := w.cfg
	cfg.DatabaseDir, cfg.DID = t.TempDir(), did.String()
	_, err := hold.New(t.Context(), cfg, w.deps)
	require.ErrorContains(t, err, "rotation key", "its new signing key must get into the document")
	copyFile(t, filepath.Join(w.cfg.DatabaseDir, "rotation.key"), filepath.Join(cfg.DatabaseDir, "rotation.key"))
	h, err := hold.New(t.Context(), cfg, w.deps)
	require.NoError(t, err)
	require.Equal(t, did, h.DID())
	require.NoError(t, h.Close(t.Context()))

	cfg.DatabaseDir, cfg.DID = t.TempDir(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	_, err = hold.New(t.Context(), cfg, w.deps)
	require.ErrorIs(t, err, plc.ErrNotRegistered)
	require.NoFileExists(t, filepath.Join(cfg.DatabaseDir, "did.txt"), "a typing error binds nothing")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, b, 0o600))
}
