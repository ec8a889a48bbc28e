package hold_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
)

// whole sends a blob as the whole of an upload.
func (w *world) whole(handle, id string, d digest.Digest, body io.Reader) reply {
	w.t.Helper()
	query := url.Values{"upload": {id}, "digest": {string(d)}}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/xrpc/io.atcr.hold.uploadBlob?"+query.Encode(), body)
	require.NoError(w.t, err)
	req.Header.Set("Authorization", "Bearer "+w.token(handle))
	return w.do(req)
}

func TestAWholeBlobIsUploadedInOneRequest(t *testing.T) {
	w := newWorld(t, public)
	blob := bytes.Repeat([]byte("layer"), 100_000)
	for name, body := range map[string]io.Reader{"with its length": bytes.NewReader(blob), "in chunks": io.MultiReader(bytes.NewReader(blob))} {
		id := w.begin(alice)
		d := digest.FromBytes(blob)
		a := w.whole(alice, id, d, body)
		require.Equal(t, http.StatusOK, a.status, "%s: %s", name, a.body)
		require.JSONEq(t, `{"status":"completed","digest":"`+string(d)+`","size":500000}`, string(a.body))
		require.True(t, bytes.Equal(blob, w.pull(nobody, alice, d, nil).body))
		require.Equal(t, a.body, w.whole(alice, id, d, strings.NewReader("whatever")).body, "a repeated request gets the same answer")
		require.Equal(t, "InvalidUploadId", w.whole(alice, id, digest.FromString("y"), strings.NewReader("y")).errorName())
		blob = append(blob[:0:0], blob...)
	}
	id, long := w.begin(alice), digest.SHA512.FromBytes(blob)
	require.Equal(t, http.StatusOK, w.whole(alice, id, long, bytes.NewReader(blob)).status)
	require.True(t, bytes.Equal(blob, w.pull(nobody, alice, long, nil).body))
	entries, err := os.ReadDir(filepath.Join(w.cfg.StorageRootDir, "uploads"))
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestAWholeBlobOfTheWrongDigestEndsTheUpload(t *testing.T) {
	w := newWorld(t, public)
	id, d := w.begin(alice), digest.FromString("what was meant")
	require.Equal(t, "InvalidDigest", w.whole(alice, id, d, strings.NewReader("what was sent")).errorName())
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, digest.FromString("what was sent")).errorName())
	require.Equal(t, "InvalidUploadId", w.whole(alice, id, d, strings.NewReader("what was meant")).errorName())
}

func TestAWholeBlobNeedsTheRightsOfAnUpload(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	w.addCrew(carol, "blob:read")
	id, blob := w.begin(alice), "bytes"
	d := digest.FromString(blob)
	require.Equal(t, "InvalidUploadId", w.whole(bob, id, d, strings.NewReader(blob)).errorName(), "it is not bob's")
	require.Equal(t, "Forbidden", w.whole(carol, id, d, strings.NewReader(blob)).errorName())
	a := w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.uploadBlob?upload="+id+"&digest="+string(d), "", nil)
	require.Equal(t, "AuthRequired", a.errorName())
	for id, d := range map[string]digest.Digest{"../../etc": d, "": d, storage.NewUploadID(): d} {
		require.Equal(t, "InvalidUploadId", w.whole(alice, id, d, strings.NewReader(blob)).errorName(), id)
	}
	require.Equal(t, "InvalidDigest", w.whole(alice, id, "sha256:x", strings.NewReader(blob)).errorName())
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
	require.Equal(t, http.StatusOK, w.whole(alice, id, d, strings.NewReader(blob)).status)
}

func TestAWholeBlobThatBreaksOffLeavesTheUploadAndItsParts(t *testing.T) {
	w := newWorld(t, public)
	id, blob := w.begin(alice), "bytes of a part"
	d := digest.FromString(blob)
	part := w.part(alice, id, 1, []byte(blob))
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /xrpc/io.atcr.hold.uploadBlob?upload="+id+"&digest="+string(digest.FromString("x"))+" HTTP/1.1\r\nHost: hold\r\nAuthorization: Bearer "+
		w.token(alice)+"\r\nContent-Length: 100\r\nConnection: close\r\n\r\nnot all of it")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "UploadFailed")
	require.Equal(t, http.StatusOK, w.complete(alice, id, d, part).status)
	require.Equal(t, blob, string(w.pull(nobody, alice, d, nil).body))
}

// meeting lets a test hold up what storage has received.
type meeting struct {
	storage.Driver
	receive func(next func() (string, error)) (string, error)
}

func (m meeting) Receive(id string, n int, body io.Reader) (string, error) {
	return m.receive(func() (string, error) { return m.Driver.(storage.Receiver).Receive(id, n, body) })
}

func TestOfTwoRequestsThatSendAnUploadAtOnceOneCompletesItAndTheOtherEndsNothing(t *testing.T) {
	for name, late := range map[string]struct {
		status int // of the first
		whole  bool
	}{"the second takes the place of the first": {http.StatusServiceUnavailable, true}, "the first is completed before the second is whole": {http.StatusOK, false}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, public)
			var calls atomic.Int64
			began, came, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
			release := sync.OnceFunc(func() { close(answered) })
			defer release()
			w.hold.WrapDriver(func(d storage.Driver) storage.Driver {
				return meeting{d, func(next func() (string, error)) (etag string, err error) {
					if calls.Add(1) == 1 {
						defer func() { <-came }()
						defer close(began)
						return next()
					}
					if late.whole {
						defer func() { <-answered }()
						defer close(came)
						return next()
					}
					close(came)
					<-answered
					return next()
				}}
			})
			id, blob := w.begin(alice), "blob"
			d := digest.FromString(blob)
			first := make(chan reply, 1)
			go func() { first <- w.whole(alice, id, d, strings.NewReader(blob)) }()
			<-began
			second := make(chan reply, 1)
			go func() { second <- w.whole(alice, id, d, strings.NewReader(blob)) }()
			a := <-first
			require.Equal(t, late.status, a.status, "%s", a.body)
			if late.status != http.StatusOK {
				unavailable(t, a, "CompletionFailed")
			}
			release()
			a = <-second
			require.Equal(t, http.StatusOK, a.status, "%s", a.body)
			require.Equal(t, blob, string(w.pull(nobody, alice, d, nil).body))
		})
	}
}
