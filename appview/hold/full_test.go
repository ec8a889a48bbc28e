package hold_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
)

// full is a driver on a disk that can be full.
type full struct {
	storage.Driver
	now *atomic.Bool
}

func (f full) problem() error {
	if !f.now.Load() {
		return nil
	}
	return fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "/secret/path", Err: syscall.ENOSPC})
}

func (f full) Begin(ctx context.Context, id string, alg digest.Algorithm) error {
	if err := f.problem(); err != nil {
		return err
	}
	return f.Driver.Begin(ctx, id, alg)
}

func (f full) Complete(ctx context.Context, id string, d digest.Digest, parts []storage.Part) (int64, error) {
	if err := f.problem(); err != nil {
		return 0, err
	}
	return f.Driver.Complete(ctx, id, d, parts)
}

func (f full) Receive(alg digest.Algorithm, body io.Reader) (storage.Received, error) {
	if err := f.problem(); err != nil {
		return nil, err
	}
	return f.Driver.(storage.Receiver).Receive(alg, body)
}

func TestAFullDiskIsOneClearErrorAndNothingIsVisible(t *testing.T) {
	w := newWorld(t, public)
	disk := &atomic.Bool{}
	w.hold.WrapDriver(func(d storage.Driver) storage.Driver { return full{d, disk} })
	id := w.begin(alice)
	part, d := w.part(alice, id, 1, []byte("blob")), digest.FromString("blob")
	disk.Store(true)
	for _, a := range []reply{w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}), w.complete(alice, id, d, part),
		w.whole(alice, d, strings.NewReader("blob"))} {
		require.Equal(t, http.StatusInsufficientStorage, a.status, "%s", a.body)
		require.Equal(t, "StorageFull", a.errorName())
		require.NotContains(t, string(a.body), "secret")
	}
	require.Equal(t, http.StatusNotFound, w.getBlob(nobody, alice, d).status)
	require.Contains(t, w.series("atcr_hold_uploads_total"), `atcr_hold_uploads_total{outcome="failed"} 2`)

	disk.Store(false)
	require.Equal(t, http.StatusOK, w.complete(alice, id, d, part).status, "the parts are kept")
	require.Equal(t, "blob", string(w.pull(nobody, alice, d, nil).body))
}

// Clients that give up between the last layer and the manifest leave blobs behind.
func TestABlobThatNoManifestNamesGoesAfterAWhile(t *testing.T) {
	w, c := at(t, public)
	left := w.push(alice, []byte("left behind"))
	kept := w.push(alice, []byte("of a manifest"))
	require.Equal(t, http.StatusOK, w.reserve(alice, "m", []byte("of a manifest")).status)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(nobody, alice, left).status, "a push may be going on")

	c.add(25 * time.Hour)
	late := w.push(alice, []byte("just now"))
	down := func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
	w.between.Store(&down)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.stored("left behind"), "the user's PDS cannot say that no manifest names it")
	w.between.Store(nil)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.Equal(t, http.StatusNotFound, w.getBlob(nobody, alice, left).status)
	require.False(t, w.stored("left behind"), "its bytes are gone too")
	for _, d := range []digest.Digest{kept, late} {
		require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(nobody, alice, d).status)
	}
}

func TestABlobOfAPublicManifestThatNobodyToldOfStays(t *testing.T) {
	w, c := at(t, public)
	d := w.push(alice, []byte("layer"))
	w.publish(alice, image("config", "layer"))
	for range 3 {
		c.add(25 * time.Hour)
		require.NoError(t, w.hold.Sweep(t.Context()))
	}
	require.True(t, w.stored("layer"))
	require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(nobody, alice, d).status)
}
