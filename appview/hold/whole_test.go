package hold_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage"
)

// whole sends a blob in one request.
func (w *world) whole(handle string, d digest.Digest, body io.Reader) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/xrpc/io.atcr.hold.putBlob?digest="+string(d), body)
	require.NoError(w.t, err)
	req.Header.Set("Authorization", "Bearer "+w.token(handle))
	return w.do(req)
}

// inUploads is what the storage has of uploads and of blobs that come.
func (w *world) inUploads() (names []string) {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.cfg.StorageRootDir, "uploads"))
	require.NoError(w.t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAWholeBlobIsUploadedInOneRequest(t *testing.T) {
	w := newWorld(t, public)
	blob := bytes.Repeat([]byte("layer"), 100_000)
	for _, alg := range storage.Algorithms {
		d := alg.FromBytes(blob)
		for name, body := range map[string]io.Reader{"with its length": bytes.NewReader(blob), "in chunks, again": io.MultiReader(bytes.NewReader(blob))} {
			a := w.whole(alice, d, body)
			require.Equal(t, http.StatusOK, a.status, "%s: %s", name, a.body)
			require.JSONEq(t, `{"status":"completed","digest":"`+string(d)+`","size":500000}`, string(a.body))
			require.True(t, bytes.Equal(blob, w.pull(nobody, alice, d, nil).body))
		}
	}
	empty := digest.FromString("")
	require.Equal(t, http.StatusOK, w.whole(alice, empty, http.NoBody).status)
	require.Empty(t, w.pull(nobody, alice, empty, nil).body)
	require.Empty(t, w.inUploads())
}

// A release before had uploadBlob, which takes the bytes of an upload, and told of it by whole.
func TestTheAppViewOfAnEarlierReleaseFindsNothingThatItTakesForItsOwn(t *testing.T) {
	w := newWorld(t, public)
	a := w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"})
	var out map[string]any
	a.json(&out)
	require.Equal(t, true, out["wholeBlobs"])
	require.NotContains(t, out, "whole")
	require.Equal(t, http.StatusNotImplemented, w.call(alice, "io.atcr.hold.uploadBlob?digest="+string(digest.FromString("x")), object{}).status)
}

func TestAWholeBlobOfTheWrongDigestIsNotKept(t *testing.T) {
	w := newWorld(t, public)
	d := digest.FromString("what was meant")
	require.Equal(t, "InvalidDigest", w.whole(alice, d, strings.NewReader("what was sent")).errorName())
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, digest.FromString("what was sent")).errorName())
	require.Empty(t, w.inUploads())
	require.Equal(t, http.StatusOK, w.whole(alice, d, strings.NewReader("what was meant")).status)
}

func TestAWholeBlobMendsADamagedOne(t *testing.T) {
	w := newWorld(t, public)
	blob := "layer"
	d := digest.FromString(blob)
	require.Equal(t, http.StatusOK, w.whole(alice, d, strings.NewReader(blob)).status)
	require.NoError(t, os.WriteFile(filepath.Join(w.cfg.StorageRootDir, filepath.FromSlash(storage.BlobKey(d))), []byte("l"), 0o600))
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
	require.Equal(t, http.StatusOK, w.whole(alice, d, strings.NewReader(blob)).status)
	require.Equal(t, blob, string(w.pull(nobody, alice, d, nil).body))
}

func TestAWholeBlobNeedsTheRightsOfAnUpload(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(carol, "blob:read")
	blob := "bytes"
	d := digest.FromString(blob)
	require.Equal(t, "Forbidden", w.whole(carol, d, strings.NewReader(blob)).errorName())
	a := w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.putBlob?digest="+string(d), "", nil)
	require.Equal(t, "AuthRequired", a.errorName())
	for _, bad := range []digest.Digest{"", "sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		require.Equal(t, "InvalidDigest", w.whole(alice, bad, strings.NewReader(blob)).errorName(), bad)
	}
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
}

// sending is a request with a whole blob whose bytes do not all come; end closes its connection for writing and gives the answer.
func (w *world) sending(handle, begin string) (end func() string) {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /xrpc/io.atcr.hold.putBlob?digest="+string(digest.FromString("x"))+" HTTP/1.1\r\nHost: hold\r\nAuthorization: Bearer "+
		w.token(handle)+"\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"+begin)
	require.NoError(w.t, err)
	return func() string {
		w.t.Helper()
		require.NoError(w.t, conn.(*net.TCPConn).CloseWrite())
		answer, err := io.ReadAll(conn)
		require.NoError(w.t, err)
		return string(answer)
	}
}

func TestAWholeBlobThatBreaksOffLeavesNothing(t *testing.T) {
	w := newWorld(t, public)
	require.Contains(t, w.sending(alice, "not all of it")(), "UploadFailed")
	require.Empty(t, w.inUploads())
	require.Contains(t, w.series("atcr_hold_uploads_total"), `atcr_hold_uploads_total{outcome="aborted"} 1`)
}

func TestWholeBlobsThatComeAtOnceAreAsFewAsUploads(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { public(c); c.MaxUploads = 2 })
	first := w.sending(alice, "a")
	w.sending(alice, "b")
	require.Eventually(t, func() bool { return len(w.inUploads()) == 2 }, 30*time.Second, time.Millisecond)
	blob := "third"
	a := w.whole(alice, digest.FromString(blob), strings.NewReader(blob))
	require.Equal(t, "TooManyUploads", a.errorName())
	require.Equal(t, "60", a.header.Get("Retry-After"))
	require.Contains(t, first(), "UploadFailed")
	require.Equal(t, http.StatusOK, w.whole(alice, digest.FromString(blob), strings.NewReader(blob)).status)
}

func TestAWholeBlobOfAKilledHoldGoesWithTheNextStart(t *testing.T) {
	w, c := at(t, public)
	stray := filepath.Join(w.cfg.StorageRootDir, "uploads", ".whole-1")
	half := func() { require.NoError(t, os.WriteFile(stray, []byte("half"), 0o600)) }
	half()
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.FileExists(t, stray, "it may still come")
	id := w.begin(alice)
	p := w.part(alice, id, 1, []byte("part"))
	w.restart(nil)
	require.NoFileExists(t, stray)
	require.Equal(t, http.StatusOK, w.complete(alice, id, digest.FromString("part"), p).status, "uploads live through it")
	half()
	c.add(25 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.NoFileExists(t, stray, "nor do those stay that could not be removed")
}
