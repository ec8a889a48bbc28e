// Package storagetest is the behavior that every storage driver must have, tested over HTTP as clients use it.
package storagetest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
)

// Run tests a driver; open makes a fresh, empty one whose URLs are served.
func Run(t *testing.T, open func(t *testing.T) storage.Driver) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, d storage.Driver)
	}{
		{"a blob of one part reads back as it was uploaded", onePart},
		{"a blob of many parts of any size reads back in their order", manyParts},
		{"parts may be uploaded in any order and at once", outOfOrder},
		{"sha512 is as good as sha256, with the wrong guess too", sha512},
		{"an empty blob needs no part", empty},
		{"an empty part adds nothing", emptyPart},
		{"parts of the wrong digest make nothing visible", wrongDigest},
		{"a missing part makes nothing visible", missingPart},
		{"a part that is not the one named makes nothing visible", otherETag},
		{"a part put again replaces the first", putAgain},
		{"only the named parts count", surplusPart},
		{"an aborted upload leaves nothing", abort},
		{"what is pushed to an existing blob is verified too", dedupe},
		{"ranges are served", ranges},
		{"HEAD tells the size without a body", head},
		{"a deleted blob is gone", deleted},
		{"a completion can be repeated until the upload is given up", repeated},
		{"two uploads of the same blob may complete at once", together},
		{"a changed or foreign URL is refused", tampered},
		{"the storage says that it is well", check},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) { tt.test(t, open(t)) })
	}
}

// Bytes are n pseudo-random bytes, different for each seed.
func Bytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte{byte(seed), byte(seed >> 8)})).Read(b)
	return b
}

// Begin starts an upload.
func Begin(t *testing.T, d storage.Driver) string {
	t.Helper()
	id := storage.NewUploadID()
	require.NoError(t, d.Begin(t.Context(), id, digest.SHA256))
	return id
}

// Put uploads one part and returns it by name.
func Put(t *testing.T, d storage.Driver, id string, n int, b []byte) storage.Part {
	t.Helper()
	u, err := d.PartURL(t.Context(), id, n)
	require.NoError(t, err)
	require.Equal(t, http.MethodPut, u.Method)
	req, err := http.NewRequestWithContext(t.Context(), u.Method, u.URL, bytes.NewReader(b))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	require.Equal(t, http.StatusOK, resp.StatusCode, "PUT of part %d: %s", n, body)
	require.NotEmpty(t, resp.Header.Get("ETag"))
	return storage.Part{Number: n, ETag: resp.Header.Get("ETag")}
}

// Answer is what a URL answered, read to its end.
type Answer struct {
	StatusCode    int
	ContentLength int64
	Header        http.Header
}

// Get reads a blob by its URL.
func Get(t *testing.T, d storage.Driver, dg digest.Digest, method string, header http.Header) (Answer, []byte) {
	t.Helper()
	u, err := d.BlobURL(t.Context(), dg, method)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, u.URL, nil)
	require.NoError(t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return Answer{resp.StatusCode, resp.ContentLength, resp.Header}, body
}

func requireBlob(t *testing.T, d storage.Driver, want []byte, dg digest.Digest) {
	t.Helper()
	size, err := d.Stat(t.Context(), dg)
	require.NoError(t, err)
	require.Equal(t, int64(len(want)), size)
	resp, got := Get(t, d, dg, http.MethodGet, nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, int64(len(want)), resp.ContentLength)
	require.True(t, bytes.Equal(want, got), "the bytes differ")
}

func requireNoBlob(t *testing.T, d storage.Driver, dg digest.Digest) {
	t.Helper()
	_, err := d.Stat(t.Context(), dg)
	require.ErrorIs(t, err, storage.ErrNotFound)
	resp, _ := Get(t, d, dg, http.MethodGet, nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
}

func upload(t *testing.T, d storage.Driver, b []byte) digest.Digest {
	t.Helper()
	id := Begin(t, d)
	p := Put(t, d, id, 1, b)
	dg := digest.FromBytes(b)
	size, err := d.Complete(t.Context(), id, dg, []storage.Part{p})
	require.NoError(t, err)
	require.Equal(t, int64(len(b)), size)
	return dg
}

func onePart(t *testing.T, d storage.Driver) {
	b := Bytes(1, 3<<20)
	requireBlob(t, d, b, upload(t, d, b))
}

func manyParts(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	var all []byte
	var parts []storage.Part
	for i, n := range []int{1, 6 << 20, 100, 5 << 20, 4 << 20, 5<<20 + 1, 12 << 20, 1 << 20, 3} {
		b := Bytes(uint64(i), n)
		all = append(all, b...)
		parts = append(parts, Put(t, d, id, i+1, b))
	}
	dg := digest.FromBytes(all)
	requireNoBlob(t, d, dg)
	size, err := d.Complete(t.Context(), id, dg, parts)
	require.NoError(t, err)
	require.Equal(t, int64(len(all)), size)
	requireBlob(t, d, all, dg)
}

func outOfOrder(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	parts := make([]storage.Part, 5)
	all := make([][]byte, len(parts))
	var wg sync.WaitGroup
	for i := len(parts) - 1; i >= 0; i-- {
		all[i] = Bytes(uint64(i), 1000+i)
		wg.Go(func() { parts[i] = Put(t, d, id, i+1, all[i]) })
	}
	wg.Wait()
	whole := bytes.Join(all, nil)
	_, err := d.Complete(t.Context(), id, digest.FromBytes(whole), parts)
	require.NoError(t, err)
	requireBlob(t, d, whole, digest.FromBytes(whole))
}

func sha512(t *testing.T, d storage.Driver) {
	b := Bytes(1, 100_000)
	id := Begin(t, d)
	p := Put(t, d, id, 1, b)
	dg := digest.SHA512.FromBytes(b)
	_, err := d.Complete(t.Context(), id, dg, []storage.Part{p})
	require.NoError(t, err)
	requireBlob(t, d, b, dg)
	requireNoBlob(t, d, digest.FromBytes(b))
}

func empty(t *testing.T, d storage.Driver) {
	for _, dg := range []digest.Digest{digest.FromString(""), digest.SHA512.FromString("")} {
		size, err := d.Complete(t.Context(), Begin(t, d), dg, nil)
		require.NoError(t, err)
		require.Zero(t, size)
		requireBlob(t, d, []byte{}, dg)
	}
}

func emptyPart(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	parts := []storage.Part{Put(t, d, id, 1, nil), Put(t, d, id, 2, []byte("x")), Put(t, d, id, 3, nil)}
	_, err := d.Complete(t.Context(), id, digest.FromString("x"), parts)
	require.NoError(t, err)
	requireBlob(t, d, []byte("x"), digest.FromString("x"))
}

func wrongDigest(t *testing.T, d storage.Driver) {
	wrong := digest.FromString("something else")
	for _, sizes := range [][]int{{}, {10}, {10, 20}, {6 << 20, 10, 6 << 20}} {
		id := Begin(t, d)
		var parts []storage.Part
		for i, n := range sizes {
			parts = append(parts, Put(t, d, id, i+1, Bytes(uint64(i), n)))
		}
		_, err := d.Complete(t.Context(), id, wrong, parts)
		require.ErrorIs(t, err, storage.ErrDigestMismatch)
		requireNoBlob(t, d, wrong)
		require.NoError(t, d.Abort(t.Context(), id))
	}
}

func missingPart(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	p := Put(t, d, id, 1, []byte("one"))
	_, err := d.Complete(t.Context(), id, digest.FromString("one"), []storage.Part{p, {Number: 2}})
	require.ErrorIs(t, err, storage.ErrMissingPart)
	requireNoBlob(t, d, digest.FromString("one"))
}

func otherETag(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	Put(t, d, id, 1, []byte("one"))
	_, err := d.Complete(t.Context(), id, digest.FromString("one"), []storage.Part{{Number: 1, ETag: `"0123"`}})
	require.ErrorIs(t, err, storage.ErrMissingPart)
	requireNoBlob(t, d, digest.FromString("one"))
}

func putAgain(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	first := Put(t, d, id, 1, []byte("first"))
	again := Put(t, d, id, 1, []byte("again"))
	_, err := d.Complete(t.Context(), id, digest.FromString("first"), []storage.Part{first})
	require.ErrorIs(t, err, storage.ErrMissingPart)
	_, err = d.Complete(t.Context(), id, digest.FromString("again"), []storage.Part{again})
	require.NoError(t, err)
	requireBlob(t, d, []byte("again"), digest.FromString("again"))
}

func surplusPart(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	p := Put(t, d, id, 7, []byte("wanted"))
	Put(t, d, id, 3, []byte("not"))
	_, err := d.Complete(t.Context(), id, digest.FromString("wanted"), []storage.Part{p})
	require.NoError(t, err)
	requireBlob(t, d, []byte("wanted"), digest.FromString("wanted"))
}

func abort(t *testing.T, d storage.Driver) {
	id := Begin(t, d)
	p := Put(t, d, id, 1, []byte("x"))
	require.NoError(t, d.Abort(t.Context(), id))
	require.NoError(t, d.Abort(t.Context(), id), "again")
	require.NoError(t, d.Abort(t.Context(), storage.NewUploadID()), "never begun")
	_, err := d.Complete(t.Context(), id, digest.FromString("x"), []storage.Part{p})
	require.Error(t, err)
	requireNoBlob(t, d, digest.FromString("x"))
}

func dedupe(t *testing.T, d storage.Driver) {
	b := Bytes(1, 1000)
	dg := upload(t, d, b)
	require.Equal(t, dg, upload(t, d, b))
	id := Begin(t, d)
	p := Put(t, d, id, 1, []byte("other bytes"))
	_, err := d.Complete(t.Context(), id, dg, []storage.Part{p})
	require.ErrorIs(t, err, storage.ErrDigestMismatch)
	requireBlob(t, d, b, dg)
}

func ranges(t *testing.T, d storage.Driver) {
	b := Bytes(1, 1000)
	dg := upload(t, d, b)
	for spec, want := range map[string][]byte{
		"bytes=0-0": b[:1], "bytes=10-19": b[10:20], "bytes=990-": b[990:], "bytes=-5": b[995:], "bytes=900-2000": b[900:],
	} {
		resp, got := Get(t, d, dg, http.MethodGet, http.Header{"Range": {spec}})
		require.Equal(t, http.StatusPartialContent, resp.StatusCode, spec)
		require.Equal(t, want, got, spec)
		require.NotEmpty(t, resp.Header.Get("Content-Range"), spec)
	}
	resp, _ := Get(t, d, dg, http.MethodGet, http.Header{"Range": {"bytes=1000-"}})
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, resp.StatusCode)
}

func head(t *testing.T, d storage.Driver) {
	b := Bytes(1, 1000)
	dg := upload(t, d, b)
	resp, body := Get(t, d, dg, http.MethodHead, nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, int64(1000), resp.ContentLength)
	require.Equal(t, "application/octet-stream", resp.Header.Get("Content-Type"))
	require.Empty(t, body)
}

func deleted(t *testing.T, d storage.Driver) {
	dg := upload(t, d, []byte("short life"))
	require.NoError(t, d.Delete(t.Context(), dg))
	requireNoBlob(t, d, dg)
	require.NoError(t, d.Delete(t.Context(), dg), "again")
	requireBlob(t, d, []byte("short life"), upload(t, d, []byte("short life")))
}

func repeated(t *testing.T, d storage.Driver) {
	for _, sizes := range [][]int{{10}, {2 << 20}, {6 << 20, 10}} {
		id := Begin(t, d)
		var all []byte
		var parts []storage.Part
		for i, n := range sizes {
			b := Bytes(uint64(i), n)
			all = append(all, b...)
			parts = append(parts, Put(t, d, id, i+1, b))
		}
		dg := digest.FromBytes(all)
		for range 2 {
			size, err := d.Complete(t.Context(), id, dg, parts)
			require.NoError(t, err)
			require.Equal(t, int64(len(all)), size)
			requireBlob(t, d, all, dg)
			require.NoError(t, d.Delete(t.Context(), dg))
		}
		_, err := d.Complete(t.Context(), id, dg, parts)
		require.NoError(t, err)
		// What is published belongs to everybody: an upload whose bytes are others by now takes nothing of it away.
		other := Put(t, d, id, 1, Bytes(7, sizes[0]))
		_, err = d.Complete(t.Context(), id, dg, append([]storage.Part{other}, parts[1:]...))
		require.ErrorIs(t, err, storage.ErrDigestMismatch)
		requireBlob(t, d, all, dg)
		require.NoError(t, d.Abort(t.Context(), id))
		requireBlob(t, d, all, dg)
		_, err = d.Complete(t.Context(), id, dg, parts)
		require.Error(t, err)
	}
}

// Heals tests that a push replaces the stored object of its digest, whatever became of that. damage writes an object
// past the driver.
func Heals(t *testing.T, d storage.Driver, damage func(key string, b []byte)) {
	for _, n := range []int{1000, 2 << 20} {
		good := Bytes(1, n)
		dg := upload(t, d, good)
		for _, bad := range [][]byte{{}, good[:n/2], append(Bytes(2, 1), good...), Bytes(3, n)} {
			damage(storage.BlobKey(dg), bad)
			_, got := Get(t, d, dg, http.MethodGet, nil)
			require.True(t, bytes.Equal(bad, got), "the damage is done")
			require.Equal(t, dg, upload(t, d, good))
			requireBlob(t, d, good, dg)
		}
	}
}

func together(t *testing.T, d storage.Driver) {
	b := Bytes(1, 6<<20)
	var wg sync.WaitGroup
	for range 4 {
		id := Begin(t, d)
		parts := []storage.Part{Put(t, d, id, 1, b[:5<<20]), Put(t, d, id, 2, b[5<<20:])}
		wg.Go(func() {
			_, err := d.Complete(t.Context(), id, digest.FromBytes(b), parts)
			if err != nil {
				t.Errorf("complete: %v", err)
			}
		})
	}
	wg.Wait()
	requireBlob(t, d, b, digest.FromBytes(b))
}

func tampered(t *testing.T, d storage.Driver) {
	one, two := upload(t, d, []byte("one")), upload(t, d, []byte("two"))
	u, err := d.BlobURL(t.Context(), one, http.MethodGet)
	require.NoError(t, err)
	for _, bad := range []string{
		strings.ReplaceAll(u.URL, one.Encoded(), two.Encoded()),
		strings.NewReplacer("xpires=1", "xpires=2", "Expires=9", "Expires=99").Replace(u.URL),
		strings.SplitN(u.URL, "?", 2)[0],
	} {
		require.NotEqual(t, u.URL, bad)
		resp, err := http.Get(bad)
		require.NoError(t, err)
		resp.Body.Close()
		require.GreaterOrEqual(t, resp.StatusCode, 400, bad)
	}
	id, other := Begin(t, d), Begin(t, d)
	u, err = d.PartURL(t.Context(), id, 1)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, strings.ReplaceAll(u.URL, id, other), strings.NewReader("x"))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}

func check(t *testing.T, d storage.Driver) {
	require.NoError(t, d.Check(t.Context()))
}
