package hold_test

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// exported is the repository of a stopped hold.
func (w *world) exported() []byte {
	w.t.Helper()
	var car bytes.Buffer
	require.NoError(w.t, hold.ExportRepo(w.t.Context(), w.cfg, w.deps, &car))
	return car.Bytes()
}

func dataOf(t *testing.T, car []byte) string {
	t.Helper()
	commit, _, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(car))
	require.NoError(t, err)
	return commit.Data.String()
}

// filled is a stopped hold with crew, layers and statistics.
func filled(t *testing.T, change func(*hold.Config)) (w *world, d digest.Digest) {
	w = newWorld(t, func(c *hold.Config) { c.Public = true; change(c) })
	w.addCrew(bob, "blob:write")
	d = w.push(alice, []byte("layer"))
	w.notify(alice, w.manifest("v1", d))
	w.close()
	return w, d
}

// moved is the same hold on a new database directory, with what keys an operator kept.
func (w *world) moved(keys ...string) hold.Config {
	w.t.Helper()
	cfg := w.cfg
	cfg.DatabaseDir = w.t.TempDir()
	for _, name := range append(keys, "url.key") {
		copyFile(w.t, filepath.Join(w.cfg.DatabaseDir, name), filepath.Join(cfg.DatabaseDir, name))
	}
	return cfg
}

func TestAHoldMovesToANewDirectory(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*hold.Config)
		keys   []string
	}{
		"did:web, with its key":                       {func(*hold.Config) {}, []string{"hold.key"}},
		"did:plc, with both keys":                     {onPLC, []string{"hold.key", "rotation.key"}},
		"did:plc, with a new key: the document knows": {onPLC, []string{"rotation.key"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, d := filled(t, tt.change)
			did, car := w.hold.DID(), w.exported()
			cfg := w.moved(tt.keys...)
			report, err := hold.ImportRepo(t.Context(), cfg, w.deps, bytes.NewReader(car), hold.ImportOptions{})
			require.NoError(t, err)
			require.Equal(t, hold.ImportReport{DID: did, Records: 5, Layers: 1}, report) // captain, two of the crew, layer, statistics
			w.cfg = cfg
			require.Equal(t, dataOf(t, car), dataOf(t, w.exported()))

			w.reopen()
			require.Equal(t, did, w.hold.DID())
			require.Equal(t, "layer", string(w.pull(nobody, alice, d, nil).body), "the blob is alice's again")
			blobs, size := w.quota(alice)
			require.EqualValues(t, 1, blobs)
			require.EqualValues(t, 5, size)
			require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
			w.notify(alice, w.manifest("v1", d))
			require.Len(t, w.records("io.atcr.hold.layer"), 1, "a repeated notification writes the same record")

			head, _, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(w.query(nobody, "com.atproto.sync.getRepo", url.Values{"did": {did.String()}}).body))
			require.NoError(t, err)
			require.NoError(t, head.VerifySignature(w.publicKey()))
		})
	}
}

// publicKey is of the hold's key file.
func (w *world) publicKey() atcrypto.PublicKey {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.cfg.DatabaseDir, "hold.key"))
	require.NoError(w.t, err)
	key, err := atcrypto.ParsePrivateMultibase(string(bytes.TrimSpace(raw)))
	require.NoError(w.t, err)
	pub, err := key.PublicKey()
	require.NoError(w.t, err)
	return pub
}

func TestAnImportIsRefused(t *testing.T) {
	w, _ := filled(t, func(*hold.Config) {})
	car := w.exported()
	refused := func(cfg hold.Config, car []byte, opts hold.ImportOptions, want string) {
		t.Helper()
		_, err := hold.ImportRepo(t.Context(), cfg, w.deps, bytes.NewReader(car), opts)
		require.ErrorContains(t, err, want)
	}
	elsewhere := w.moved("hold.key")
	elsewhere.PublicURL = "https://elsewhere.example.com"
	refused(elsewhere, car, hold.ImportOptions{}, "repository of "+w.hold.DID().String())

	refused(w.moved(), car, hold.ImportOptions{}, "signed")
	stranger, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	strange, err := stranger.PublicKey()
	require.NoError(t, err)
	refused(w.moved(), car, hold.ImportOptions{SigningKey: strange.DIDKey()}, "signed")
	refused(w.moved(), car, hold.ImportOptions{SigningKey: "key"}, "did:key")
	_, err = hold.ImportRepo(t.Context(), w.moved(), w.deps, bytes.NewReader(car), hold.ImportOptions{SigningKey: w.publicKey().DIDKey()})
	require.NoError(t, err, "the key that signed it")

	refused(w.moved("hold.key"), car[:len(car)-1], hold.ImportOptions{}, "CAR")
	refused(w.cfg, car, hold.ImportOptions{}, "has records already")

	w.reopen()
	refused(w.cfg, car, hold.ImportOptions{}, "stop it first")
	require.ErrorIs(t, hold.ExportRepo(t.Context(), w.cfg, w.deps, &bytes.Buffer{}), hold.ErrInUse)
	require.ErrorContains(t, hold.ExportRepo(t.Context(), w.moved(), w.deps, &bytes.Buffer{}), "nothing to export")
}

func TestAHoldThatStartedOnceTakesAnImport(t *testing.T) {
	w, _ := filled(t, func(*hold.Config) {})
	car := w.exported()
	cfg := w.moved("hold.key")
	h, err := hold.New(t.Context(), cfg, w.deps)
	require.NoError(t, err)
	require.NoError(t, h.Close(t.Context()))
	_, err = hold.ImportRepo(t.Context(), cfg, w.deps, bytes.NewReader(car), hold.ImportOptions{})
	require.NoError(t, err)
}

func TestReplacingARepositoryKeepsTheFormer(t *testing.T) {
	w, _ := filled(t, func(*hold.Config) {})
	old := w.exported()
	w.reopen()
	w.addCrew(carol, "blob:read")
	w.close()
	now := w.exported()

	report, err := hold.ImportRepo(t.Context(), w.cfg, w.deps, bytes.NewReader(old), hold.ImportOptions{Replace: true})
	require.NoError(t, err)
	require.Equal(t, dataOf(t, old), dataOf(t, w.exported()))
	former, err := os.ReadFile(report.Former)
	require.NoError(t, err)
	require.Equal(t, now, former)

	// And back.
	_, err = hold.ImportRepo(t.Context(), w.cfg, w.deps, bytes.NewReader(former), hold.ImportOptions{Replace: true})
	require.NoError(t, err)
	require.Equal(t, dataOf(t, now), dataOf(t, w.exported()))
}

// An import that was cut off before its commit is repeated.
func TestAnImportThatWasCutOffIsRepeated(t *testing.T) {
	w, _ := filled(t, func(*hold.Config) {})
	car := w.exported()
	cfg := w.moved("hold.key")
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := hold.ImportRepo(cut, cfg, w.deps, bytes.NewReader(car), hold.ImportOptions{})
	require.Error(t, err)
	report, err := hold.ImportRepo(t.Context(), cfg, w.deps, bytes.NewReader(car), hold.ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, 5, report.Records)
}
