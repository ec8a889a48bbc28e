package hold_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	"atcr.io/operator/appview/hold/storage/storagetest"
)

// onBothDrivers runs a test on a hold of each storage driver.
func onBothDrivers(t *testing.T, change func(*hold.Config), test func(t *testing.T, w *world)) {
	t.Run("filesystem", func(t *testing.T) { test(t, newWorld(t, change)) })
	t.Run("s3", func(t *testing.T) {
		s3 := onS3(t)
		test(t, newWorld(t, func(c *hold.Config) {
			s3(c)
			if change != nil {
				change(c)
			}
		}))
	})
}

func public(c *hold.Config) { c.Public = true }

func TestABlobPulledIsTheBlobPushed(t *testing.T) {
	onBothDrivers(t, public, func(t *testing.T, w *world) {
		one, two := storagetest.Bytes(1, 6<<20), storagetest.Bytes(2, 1000)
		d := w.push(alice, one, two)
		whole := append(one, two...)

		a := w.pull(nobody, alice, d, nil)
		require.Equal(t, http.StatusOK, a.status)
		require.True(t, bytes.Equal(whole, a.body))

		a = w.pull(nobody, alice, d, http.Header{"Range": {"bytes=100-199"}})
		require.Equal(t, http.StatusPartialContent, a.status)
		require.Equal(t, whole[100:200], a.body)

		a = w.send(http.MethodHead, w.url+"/xrpc/com.atproto.sync.getBlob?"+blobParams(w.did(alice), d).Encode(), "", nil)
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, int64(len(whole)), a.length)
		require.Equal(t, d.String(), a.header.Get("Docker-Content-Digest"))
	})
}

func TestAClientThatAsksForJSONGetsAURLForItsMethod(t *testing.T) {
	onBothDrivers(t, public, func(t *testing.T, w *world) {
		d := w.push(alice, []byte("layer"))
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			params := blobParams(w.did(alice), d)
			params.Set("method", method)
			a := w.query(nobody, "com.atproto.sync.getBlob", params)
			require.Equal(t, http.StatusOK, a.status)
			var out struct {
				URL    string
				Size   int64
				Digest digest.Digest
			}
			a.json(&out)
			require.EqualValues(t, 5, out.Size)
			require.Equal(t, d, out.Digest)
			req, err := http.NewRequestWithContext(t.Context(), method, out.URL, nil)
			require.NoError(t, err)
			a = w.do(req)
			require.Equal(t, http.StatusOK, a.status)
			require.EqualValues(t, 5, a.length)
		}
	})
}

func TestTheWrongDigestMakesNothingVisibleAndEndsTheUpload(t *testing.T) {
	onBothDrivers(t, public, func(t *testing.T, w *world) {
		id := w.begin(alice)
		p := w.part(alice, id, 1, []byte("what was sent"))
		d := digest.FromString("what was meant")
		a := w.complete(alice, id, d, p)
		require.Equal(t, http.StatusBadRequest, a.status)
		require.Equal(t, "InvalidDigest", a.errorName())
		require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
		require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, digest.FromString("what was sent")).errorName())
		require.Equal(t, "InvalidUploadId", w.complete(alice, id, digest.FromString("what was sent"), p).errorName())
	})
}

func TestAMissingPartKeepsTheUpload(t *testing.T) {
	onBothDrivers(t, public, func(t *testing.T, w *world) {
		id := w.begin(alice)
		p := w.part(alice, id, 1, []byte("x"))
		a := w.complete(alice, id, digest.FromString("xy"), p, object{"partNumber": 2})
		require.Equal(t, http.StatusBadRequest, a.status)
		require.Equal(t, "MissingParts", a.errorName())
		a = w.complete(alice, id, digest.FromString("xy"), p, w.part(alice, id, 2, []byte("y")))
		require.Equal(t, http.StatusOK, a.status)
	})
}

func TestAnEmptyBlobNeedsNoPart(t *testing.T) {
	onBothDrivers(t, public, func(t *testing.T, w *world) {
		d := w.push(alice)
		require.Equal(t, digest.FromString(""), d)
		require.Empty(t, w.pull(nobody, alice, d, nil).body)
	})
}

func TestAnAbortedUploadIsGone(t *testing.T) {
	w := newWorld(t, public)
	id := w.begin(alice)
	p := w.part(alice, id, 1, []byte("x"))
	u := w.partURL(alice, id, 2)
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.abortUpload", object{"uploadId": id}).status)
	require.Equal(t, "InvalidUploadId", w.call(alice, "io.atcr.hold.abortUpload", object{"uploadId": id}).errorName())
	require.Equal(t, "InvalidUploadId", w.complete(alice, id, digest.FromString("x"), p).errorName())
	require.Equal(t, "InvalidUploadId", w.call(alice, "io.atcr.hold.getPartUploadUrl", object{"uploadId": id, "partNumber": 1}).errorName())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, u, strings.NewReader("late"))
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, w.do(req).status)
}

func TestARepeatedCompletionGetsTheSameAnswer(t *testing.T) {
	w := newWorld(t, public)
	id := w.begin(alice)
	p := w.part(alice, id, 1, []byte("x"))
	first := w.complete(alice, id, digest.FromString("x"), p)
	require.Equal(t, http.StatusOK, first.status)
	require.Equal(t, first.body, w.complete(alice, id, digest.FromString("x"), p).body)
	require.Equal(t, "InvalidUploadId", w.complete(alice, id, digest.FromString("y"), p).errorName())
}

// The hold is killed when the storage has the blob and the ledger does not know of it yet.
func TestACompletionThatWasKilledHalfWayCanBeRepeated(t *testing.T) {
	for name, sizes := range map[string][]int{"one part": {2 << 20}, "a small blob": {10}, "many parts": {6 << 20, 10}} {
		t.Run(name, func(t *testing.T) {
			onBothDrivers(t, public, func(t *testing.T, w *world) {
				id := w.begin(alice)
				var blob []byte
				var stored []storage.Part
				var parts []object
				for i, n := range sizes {
					b := storagetest.Bytes(uint64(i), n)
					blob = append(blob, b...)
					p := w.part(alice, id, i+1, b)
					parts = append(parts, p)
					stored = append(stored, storage.Part{Number: i + 1, ETag: p["etag"].(string)})
				}
				d := digest.FromBytes(blob)
				require.NoError(t, w.hold.CompleteInStorage(t.Context(), id, d, stored...))
				w.restart(nil)
				require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName(), "nobody has it yet")
				for range 2 {
					require.Equal(t, http.StatusOK, w.complete(alice, id, d, parts...).status)
				}
				require.True(t, bytes.Equal(blob, w.pull(nobody, alice, d, nil).body))
			})
		})
	}
}

// A power cut may take what was not waited for: the hold knows the upload, and its storage has none.
func TestAnUploadThatTheStorageLostIsBegunAnew(t *testing.T) {
	w := newWorld(t, public)
	id := w.begin(alice)
	p := w.part(alice, id, 1, []byte("lost"))
	require.NoError(t, os.RemoveAll(filepath.Join(w.cfg.StorageRootDir, storage.UploadKey(id))))
	for range 2 {
		a := w.complete(alice, id, digest.FromString("lost"), p)
		require.Equal(t, http.StatusBadRequest, a.status)
		require.Equal(t, "InvalidUploadId", a.errorName())
	}
	require.Equal(t, digest.FromString("lost"), w.push(alice, []byte("lost")))
}

func TestAnUploadIsInvisibleToOtherUsers(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	id := w.begin(alice)
	p := w.part(alice, id, 1, []byte("x"))
	for method, in := range map[string]object{
		"io.atcr.hold.getPartUploadUrl": {"uploadId": id, "partNumber": 1},
		"io.atcr.hold.completeUpload":   {"uploadId": id, "digest": digest.FromString("x"), "parts": []object{p}},
		"io.atcr.hold.abortUpload":      {"uploadId": id},
	} {
		a := w.call(bob, method, in)
		require.Equal(t, http.StatusBadRequest, a.status, method)
		require.Equal(t, "InvalidUploadId", a.errorName(), method)
	}
	require.Equal(t, http.StatusOK, w.complete(alice, id, digest.FromString("x"), p).status)
}

func TestABlobIsVisibleOnlyUnderTheDIDsThatPushedIt(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	d := w.push(alice, []byte("shared"))
	a := w.getBlob(bob, bob, d)
	require.Equal(t, http.StatusNotFound, a.status)
	require.Equal(t, "BlobNotFound", a.errorName())

	require.Equal(t, d, w.push(bob, []byte("shared")))
	require.Equal(t, "shared", string(w.pull(nobody, bob, d, nil).body))

	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": d}).status)
	require.Equal(t, http.StatusNotFound, w.getBlob(nobody, alice, d).status)
	require.Equal(t, "shared", string(w.pull(nobody, bob, d, nil).body), "bob still has it")

	path := filepath.Join(w.cfg.StorageRootDir, storage.BlobKey(d))
	require.FileExists(t, path)
	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.deleteBlob", object{"digest": d}).status)
	require.NoFileExists(t, path)
}

func TestABlobThatTheStorageLostIsNotPromised(t *testing.T) {
	w := newWorld(t, public)
	d := w.push(alice, []byte("x"))
	require.NoError(t, os.Remove(filepath.Join(w.cfg.StorageRootDir, storage.BlobKey(d))))
	a := w.send(http.MethodHead, w.url+"/xrpc/com.atproto.sync.getBlob?"+blobParams(w.did(alice), d).Encode(), "", nil)
	require.Equal(t, http.StatusNotFound, a.status)
}

func TestABlobThatTheStorageCutShortIsMissingUntilItIsPushedAgain(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	d := w.push(alice, []byte("whole"))
	require.NoError(t, os.WriteFile(filepath.Join(w.cfg.StorageRootDir, storage.BlobKey(d)), []byte("who"), 0o600))
	require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
	w.push(bob, []byte("whole"))
	for _, owner := range []string{alice, bob} {
		require.Equal(t, "whole", string(w.pull(nobody, owner, d, nil).body))
	}
}

func TestBlobsAndUploadsSurviveARestart(t *testing.T) {
	w := newWorld(t, public)
	d := w.push(alice, []byte("done"))
	location := w.getBlob(nobody, alice, d).header.Get("Location")
	id := w.begin(alice)
	p := w.part(alice, id, 1, []byte("in progress"))
	did := w.hold.DID()

	w.restart(nil)
	require.Equal(t, did, w.hold.DID())
	require.Equal(t, "done", string(w.send(http.MethodGet, location, "", nil).body), "URLs live on")
	require.Equal(t, http.StatusOK, w.complete(alice, id, digest.FromString("in progress"), p).status)
}

func TestUploadsWithoutProgressExpire(t *testing.T) {
	w := newWorld(t, public)
	now := time.Now()
	w.deps.Now = func() time.Time { return now }
	w.restart(nil)
	d := w.push(alice, []byte("kept"))
	require.Equal(t, http.StatusOK, w.reserve(alice, "m", []byte("kept")).status)
	old := w.begin(alice)
	p := w.part(alice, old, 1, []byte("old"))
	now = now.Add(20 * time.Hour)
	fresh := w.begin(alice)
	fp := w.part(alice, fresh, 1, []byte("fresh"))
	require.NoError(t, w.hold.Sweep(t.Context()))
	w.part(alice, old, 2, []byte("more"))

	now = now.Add(23 * time.Hour) // the part above was progress
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.getPartUploadUrl", object{"uploadId": old, "partNumber": 2}).status)
	require.Equal(t, http.StatusOK, w.complete(alice, fresh, digest.FromString("fresh"), fp).status)

	now = now.Add(25 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.Equal(t, "InvalidUploadId", w.complete(alice, old, digest.FromString("old"), p).errorName())
	entries, err := os.ReadDir(filepath.Join(w.cfg.StorageRootDir, "uploads"))
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Equal(t, "kept", string(w.pull(nobody, alice, d, nil).body))
}

func TestBadRequestsAreRefusedWithTheirNames(t *testing.T) {
	w := newWorld(t, public)
	id := w.begin(alice)
	long := strings.Repeat("x", 2<<20)
	for _, tt := range []struct {
		method string
		in     any
		status int
		name   string
	}{
		{"initiateUpload", object{"digest": "sha384:00"}, 400, "InvalidDigest"},
		{"initiateUpload", object{"digest": strings.Repeat("x", 300)}, 400, "InvalidDigest"},
		{"initiateUpload", object{"digest": long}, 413, "PayloadTooLarge"},
		{"initiateUpload", "not an object", 400, "InvalidRequest"},
		{"getPartUploadUrl", object{"uploadId": id, "partNumber": 0}, 400, "InvalidPartNumber"},
		{"getPartUploadUrl", object{"uploadId": id, "partNumber": 10001}, 400, "InvalidPartNumber"},
		{"getPartUploadUrl", object{"uploadId": "../../etc", "partNumber": 1}, 400, "InvalidUploadId"},
		{"completeUpload", object{"uploadId": id, "digest": "sha256:x"}, 400, "InvalidDigest"},
		{"completeUpload", object{"uploadId": id, "digest": digest.FromString(""), "parts": []object{{"partNumber": 2}, {"partNumber": 1}}}, 400, "InvalidPartNumber"},
		{"completeUpload", object{"uploadId": storage.NewUploadID(), "digest": digest.FromString("")}, 400, "InvalidUploadId"},
		{"deleteBlob", object{"digest": "x"}, 400, "InvalidDigest"},
		{"notifyManifest", object{"userDid": "x"}, 400, "InvalidRequest"},
		{"requestCrew", object{"role": "admin"}, 400, "InvalidRequest"},
	} {
		a := w.call(alice, "io.atcr.hold."+tt.method, tt.in)
		require.Equal(t, tt.status, a.status, "%s %s", tt.method, a.body)
		require.Equal(t, tt.name, a.errorName(), tt.method)
	}
	for _, query := range []string{"", "cid=sha256:x&did=did:plc:x", fmt.Sprintf("cid=%s", digest.FromString("x")), fmt.Sprintf("did=did:plc:x&cid=%s&method=PUT", digest.FromString("x"))} {
		a := w.send(http.MethodGet, w.url+"/xrpc/com.atproto.sync.getBlob?"+query, "", nil)
		require.Equal(t, http.StatusBadRequest, a.status, query)
	}
}

// stubborn is a storage that cannot remove one upload.
type stubborn struct {
	storage.Driver
	id string
}

func (s stubborn) Abort(ctx context.Context, id string) error {
	if id == s.id {
		return errors.New("the parts cannot be removed")
	}
	return s.Driver.Abort(ctx, id)
}

func TestAnUploadThatCannotBeRemovedKeepsNoOtherFromExpiring(t *testing.T) {
	w := newWorld(t, public)
	now := time.Now()
	w.deps.Now = func() time.Time { return now }
	w.restart(nil)
	first := w.begin(alice)
	now = now.Add(time.Second)
	w.begin(alice)
	now = now.Add(25 * time.Hour)
	w.hold.WrapDriver(func(d storage.Driver) storage.Driver { return stubborn{d, first} })
	require.ErrorContains(t, w.hold.Sweep(t.Context()), "cannot be removed")
	require.NoError(t, w.hold.Sweep(t.Context()))
	entries, err := os.ReadDir(filepath.Join(w.cfg.StorageRootDir, "uploads"))
	require.NoError(t, err)
	require.Len(t, entries, 1)

	w.hold.WrapDriver(func(d storage.Driver) storage.Driver { return d.(stubborn).Driver })
	now = now.Add(25 * time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	entries, err = os.ReadDir(filepath.Join(w.cfg.StorageRootDir, "uploads"))
	require.NoError(t, err)
	require.Empty(t, entries, "it is tried again")
}
