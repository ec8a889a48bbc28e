package filesystem_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/storage/filesystem"
	"atcr.io/operator/appview/hold/storage/storagetest"
)

// serve opens a driver on root and serves its URLs.
func serve(t *testing.T, o filesystem.Options) *filesystem.Driver {
	t.Helper()
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	o.PublicURL = srv.URL
	o.URLKey = bytes.Repeat([]byte{7}, 32)
	d, err := filesystem.New(o)
	require.NoError(t, err)
	for pattern, h := range d.Routes() {
		mux.Handle(pattern, h)
	}
	return d
}

func TestDriver(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Driver {
		return serve(t, filesystem.Options{Root: t.TempDir()})
	})
}

// files lists everything below the root but folders.
func files(t *testing.T, root string) []string {
	t.Helper()
	found := []string{}
	require.NoError(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = append(found, strings.TrimPrefix(p, root+"/"))
		}
		return err
	}))
	return found
}

func TestACompletedUploadLeavesOnlyTheBlob(t *testing.T) {
	root := t.TempDir()
	d := serve(t, filesystem.Options{Root: root})
	id := storagetest.Begin(t, d)
	parts := []storage.Part{storagetest.Put(t, d, id, 1, []byte("a")), storagetest.Put(t, d, id, 2, []byte("b"))}
	storagetest.Put(t, d, id, 3, []byte("surplus"))
	dg := digest.FromString("ab")
	_, err := d.Complete(t.Context(), id, dg, parts)
	require.NoError(t, err)
	require.NoError(t, d.Abort(t.Context(), id))
	require.Equal(t, []string{storage.BlobKey(dg)}, files(t, root))
}

func TestADamagedBlobIsWholeAgainWhenItIsPushedAgain(t *testing.T) {
	root := t.TempDir()
	storagetest.Heals(t, serve(t, filesystem.Options{Root: root}), func(key string, b []byte) {
		path := filepath.Join(root, key)
		require.NoError(t, os.Remove(path)) // the same file may still be a part of its upload
		require.NoError(t, os.WriteFile(path, b, 0o600))
	})
}

func TestAnUploadCompletesAfterARestart(t *testing.T) {
	root := t.TempDir()
	d := serve(t, filesystem.Options{Root: root})
	id := storagetest.Begin(t, d)
	p := storagetest.Put(t, d, id, 1, []byte("survives"))

	restarted := serve(t, filesystem.Options{Root: root})
	_, err := restarted.Complete(t.Context(), id, digest.FromString("else"), []storage.Part{p})
	require.ErrorIs(t, err, storage.ErrDigestMismatch)
	_, err = restarted.Complete(t.Context(), id, digest.FromString("survives"), []storage.Part{p})
	require.NoError(t, err)
}

func TestABodyOfUnknownLengthIsOnePart(t *testing.T) {
	d := serve(t, filesystem.Options{Root: t.TempDir()})
	id := storagetest.Begin(t, d)
	b := storagetest.Bytes(1, 3<<20)
	u, err := d.PartURL(t.Context(), id, 1)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, u.URL, io.MultiReader(bytes.NewReader(b))) // chunked
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	_, err = d.Complete(t.Context(), id, digest.FromBytes(b), []storage.Part{{Number: 1, ETag: resp.Header.Get("ETag")}})
	require.NoError(t, err)
}

func TestATruncatedPartIsNoPart(t *testing.T) {
	for name, framing := range map[string]string{
		"Content-Length": "Content-Length: 1000\r\n\r\nonly this",
		"chunked":        "Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			d := serve(t, filesystem.Options{Root: root})
			id := storagetest.Begin(t, d)
			answer := rawPut(t, d, id, framing, true)
			require.Contains(t, answer, "400 Bad Request")
			require.Empty(t, files(t, root))
			_, err := d.Complete(t.Context(), id, digest.FromString("only this"), []storage.Part{{Number: 1}})
			require.ErrorIs(t, err, storage.ErrMissingPart)
		})
	}
}

func TestASilentClientIsCutOff(t *testing.T) {
	root := t.TempDir()
	d := serve(t, filesystem.Options{Root: root, Idle: 50 * time.Millisecond})
	id := storagetest.Begin(t, d)
	rawPut(t, d, id, "Content-Length: 1000\r\n\r\nonly this", false) // returns when the server closes the connection
	require.Empty(t, files(t, root))
}

// rawPut sends a PUT of part 1 by hand and returns all that the server answers until it closes.
func rawPut(t *testing.T, d *filesystem.Driver, id, rest string, closeWrite bool) string {
	t.Helper()
	u, err := d.PartURL(t.Context(), id, 1)
	require.NoError(t, err)
	host, path, _ := strings.Cut(strings.TrimPrefix(u.URL, "http://"), "/")
	conn, err := net.Dial("tcp", host)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "PUT /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s", path, host, rest)
	require.NoError(t, err)
	if closeWrite {
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	}
	answer, _ := io.ReadAll(bufio.NewReader(conn))
	return string(answer)
}

func TestURLsExpire(t *testing.T) {
	now := time.Now()
	d := serve(t, filesystem.Options{Root: t.TempDir(), Now: func() time.Time { return now }})
	id := storagetest.Begin(t, d)
	p := storagetest.Put(t, d, id, 1, []byte("x"))
	_, err := d.Complete(t.Context(), id, digest.FromString("x"), []storage.Part{p})
	require.NoError(t, err)

	u, err := d.BlobURL(t.Context(), digest.FromString("x"), http.MethodGet)
	require.NoError(t, err)
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{14 * time.Minute, http.StatusOK}, {2 * time.Minute, http.StatusForbidden}} {
		now = now.Add(tt.after)
		resp, err := http.Get(u.URL)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, tt.want, resp.StatusCode)
	}
}

func TestBlobAnswersNameTheDigest(t *testing.T) {
	d := serve(t, filesystem.Options{Root: t.TempDir()})
	id := storagetest.Begin(t, d)
	p := storagetest.Put(t, d, id, 1, []byte("x"))
	dg := digest.FromString("x")
	_, err := d.Complete(t.Context(), id, dg, []storage.Part{p})
	require.NoError(t, err)
	resp, _ := storagetest.Get(t, d, dg, http.MethodGet, nil)
	require.Equal(t, dg.String(), resp.Header.Get("Docker-Content-Digest"))
	resp, _ = storagetest.Get(t, d, dg, http.MethodGet, http.Header{"If-None-Match": {`"` + dg.String() + `"`}})
	require.Equal(t, http.StatusNotModified, resp.StatusCode)
}

func TestAnUnwritableRootIsReported(t *testing.T) {
	root := t.TempDir()
	d := serve(t, filesystem.Options{Root: root})
	require.NoError(t, os.RemoveAll(root))
	require.ErrorContains(t, d.Check(t.Context()), "storage root cannot be written")
}
