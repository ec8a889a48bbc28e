package server_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/framing/framingtest"
	"atcr.io/operator/appview/server"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/test/testenv"
)

const smallDisk = 24 << 20

// got is an answer's body; the answer must be 200.
func got(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
	return body
}

// ofLayer pushes a config and a layer of Alice's, and gives their manifest.
func ofLayer(t *testing.T, w *servertest.World, layer string) []byte {
	t.Helper()
	return manifestOf(push(t, w, app, []byte("{}")), push(t, w, app, []byte(layer)), 2, len(layer))
}

// pullsWhole fetches a manifest and its layer, as somebody who has to ask for a token first.
func pullsWhole(t *testing.T, w *servertest.World, who, tag string, manifest, layer []byte) {
	t.Helper()
	require.Equal(t, manifest, got(t, w.Do(who, http.MethodGet, "/v2/"+app+"/manifests/"+tag, app, nil, nil)))
	resp := w.Do(who, http.MethodGet, "/v2/"+app+"/blobs/"+digest.FromBytes(layer).String(), app, nil, nil)
	if resp.StatusCode == http.StatusTemporaryRedirect {
		var err error
		resp, err = http.Get(resp.Header.Get("Location"))
		require.NoError(t, err)
		defer resp.Body.Close()
	}
	require.Equal(t, layer, got(t, resp))
}

func TestAFullDiskOfTheDatabaseEndsPushesAndNoPull(t *testing.T) {
	testenv.OnSmallDisk(t, smallDisk, func(t *testing.T, disk string) {
		w := servertest.Start(t, servertest.Options{AppViewEnv: map[string]string{names.UIDatabasePath: filepath.Join(disk, "ui.db")}})
		first := ofLayer(t, w, "first")
		require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "first", first).StatusCode)
		pullsWhole(t, w, servertest.Alice, "first", first, []byte("first"))
		second := ofLayer(t, w, "second") // all of its blobs are there

		empty := testenv.Fill(t, disk)
		upload := "/v2/" + app + "/blobs/uploads/?digest=" + string(digest.FromString("third"))
		for range 2 {
			refuses(t, w.Do(servertest.Alice, http.MethodPost, upload, app, bytes.NewReader([]byte("third")), nil), 507, "UNAVAILABLE", "no disk space left")
			refuses(t, putManifest(w, servertest.Alice, app, "second", second), 507, "UNAVAILABLE", "no disk space left")
		}
		for _, who := range []string{servertest.Alice, ""} { // Alice has logged in before
			pullsWhole(t, w, who, "first", first, []byte("first"))
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/auth/token", nil)
		require.NoError(t, err)
		req.SetBasicAuth(servertest.Bob, w.Account(servertest.Bob).AppPassword)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		refuses(t, resp, 503, "UNAVAILABLE", "no disk space left")
		require.Equal(t, http.StatusNotFound, w.Do(servertest.Alice, http.MethodHead, "/v2/"+app+"/blobs/"+string(digest.FromString("third")), app, nil, nil).StatusCode)
		require.Equal(t, `{"name":"alice.test/app","tags":["first"]}`, string(bytes.TrimSpace(got(t, w.Do(servertest.Alice, http.MethodGet, "/v2/"+app+"/tags/list", app, nil, nil)))))

		empty()
		w.Token(servertest.Bob)
		push(t, w, app, []byte("third"))
		require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "second", second).StatusCode)
		pullsWhole(t, w, servertest.Alice, "second", second, []byte("second"))
	})
}

func TestAServerThatStartsOnAFullDiskSaysSoAndStartsOnceThereIsRoom(t *testing.T) {
	testenv.OnSmallDisk(t, smallDisk, func(t *testing.T, disk string) {
		w := servertest.Start(t, servertest.Options{NoAppView: true})
		start := func(file string) (*server.Server, error) {
			cfg, err := config.Load(append(w.Environ(), names.UIDatabasePath+"="+filepath.Join(disk, file)))
			require.NoError(t, err)
			return server.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
		}
		s, err := start("old.db")
		require.NoError(t, err)
		require.NoError(t, s.Close())
		empty := testenv.Fill(t, disk)
		for _, file := range []string{"old.db", "new.db"} {
			_, err := start(file)
			require.ErrorIs(t, err, store.ErrFull, file)
			require.ErrorContains(t, err, "make the volume larger")
		}
		empty()
		for _, file := range []string{"old.db", "new.db"} {
			s, err := start(file)
			require.NoError(t, err, file)
			require.NoError(t, s.Close())
		}
	})
}

func TestAFullDiskOfTheHoldEndsPushesAndNoPull(t *testing.T) {
	testenv.OnSmallDisk(t, smallDisk, func(t *testing.T, disk string) {
		w := servertest.Start(t, servertest.Options{HoldEnv: map[string]string{
			names.HoldDatabaseDir: filepath.Join(disk, "db"), names.StorageRootDir: filepath.Join(disk, "blobs")}})
		first := ofLayer(t, w, "first")
		require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "first", first).StatusCode)
		upload := func(blob []byte) *http.Response {
			return w.Do(servertest.Alice, http.MethodPost, "/v2/"+app+"/blobs/uploads/?digest="+string(digest.FromBytes(blob)), app, bytes.NewReader(blob), nil)
		}
		missing := func(blob []byte) {
			t.Helper()
			require.Equal(t, http.StatusNotFound, w.Do(servertest.Alice, http.MethodHead, "/v2/"+app+"/blobs/"+string(digest.FromBytes(blob)), app, nil, nil).StatusCode)
		}

		// One that fills it itself leaves room for others when it has failed.
		large := bytes.Repeat([]byte("0123456789abcdef"), smallDisk/16)
		refuses(t, upload(large), 507, "UNAVAILABLE", "no disk space left")
		missing(large)
		head := "PUT %s?digest=%s HTTP/1.1\r\nHost: " + w.Host() + "\r\nAuthorization: Bearer " + w.Token(servertest.Alice, "repository:"+app+":pull,push") + "\r\n"
		framingtest.Heard(t, w.Host(), fmt.Sprintf(head, start(t, w), digest.FromBytes(large)), large, 507, "no disk space left")
		push(t, w, app, []byte("second"))

		empty := testenv.Fill(t, disk)
		for range 2 {
			refuses(t, upload([]byte("third")), 507, "UNAVAILABLE", "no disk space left")
		}
		missing([]byte("third"))
		for _, who := range []string{servertest.Alice, ""} {
			pullsWhole(t, w, who, "first", first, []byte("first"))
		}
		empty()
		push(t, w, app, []byte("third"))
		again := ofLayer(t, w, "third")
		require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "third", again).StatusCode)
		pullsWhole(t, w, servertest.Alice, "third", again, []byte("third"))
	})
}

func TestAHoldThatStartsOnAFullDiskSaysSoAndStartsOnceThereIsRoom(t *testing.T) {
	testenv.OnSmallDisk(t, smallDisk, func(t *testing.T, disk string) {
		w := servertest.Start(t, servertest.Options{NoAppView: true})
		addr := map[string]string{} // of each hold, which is a part of its name
		begin := func(dir string) (func() error, error) {
			if addr[dir] == "" {
				port, err := testenv.Port("127.0.0.1")
				require.NoError(t, err)
				addr[dir] = fmt.Sprint("127.0.0.1:", port)
			}
			_, _, stop, err := w.World.AnotherHold(t.Context(), filepath.Join(disk, dir), addr[dir], nil)
			return stop, err
		}
		stop, err := begin("old")
		require.NoError(t, err)
		require.NoError(t, stop())
		empty := testenv.Fill(t, disk)
		for _, dir := range []string{"old", "new"} {
			_, err := begin(dir)
			require.ErrorContains(t, err, "disk is full", dir)
		}
		empty()
		for _, dir := range []string{"old", "new"} {
			stop, err := begin(dir)
			require.NoError(t, err, dir)
			require.NoError(t, stop())
		}
	})
}
