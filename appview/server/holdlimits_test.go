package server_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/server/servertest"
)

// countedAnswer counts the bytes of bodies that a handler writes.
type countedAnswer struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c countedAnswer) Write(p []byte) (int, error) {
	c.sent.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func TestNoByteOfABlobOnS3PassesTheHoldOnAPull(t *testing.T) {
	s3, sent := s3test.Start(t), &atomic.Int64{}
	w := servertest.Start(t, servertest.Options{
		HoldEnv: map[string]string{names.StorageDriver: "s3", names.S3Endpoint: s3.Endpoint, names.S3Bucket: s3.Bucket(t), names.AWSRegion: s3.Region,
			names.AWSAccessKeyID: s3.AccessKey, names.AWSSecretAccessKey: s3.SecretKey},
		WrapHold: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(countedAnswer{w, sent}, r) })
		}})
	img, err := random.Image(4<<20, 2)
	require.NoError(t, err)
	ref := w.Host() + "/alice.test/on-s3:v1"
	require.NoError(t, crane.Push(img, ref, crane.WithAuth(w.Auth(servertest.Alice))))
	sent.Store(0)
	got, err := crane.Pull(ref)
	require.NoError(t, err)
	require.NoError(t, drain(got))
	require.NotZero(t, sent.Load(), "it says where the blobs are")
	require.Less(t, sent.Load(), int64(16<<10), "of 8 MiB")
}

func TestAUserWithTooManyUploadsIsToldWhenToComeBack(t *testing.T) {
	w := servertest.Start(t, servertest.Options{HoldEnv: map[string]string{names.HoldMaxUploads: "2"}})
	send := func(upload string) *http.Response {
		return w.Do(servertest.Alice, http.MethodPatch, upload, app, strings.NewReader("bytes"), nil)
	}
	uploads := []string{start(t, w), start(t, w), start(t, w)}
	for _, upload := range uploads[:2] {
		require.Equal(t, http.StatusAccepted, send(upload).StatusCode)
	}
	resp := send(uploads[2])
	require.Equal(t, "60", resp.Header.Get("Retry-After"))
	refuses(t, resp, http.StatusTooManyRequests, "TOOMANYREQUESTS", "limits the number of requests. Try again after the time in Retry-After.")
	require.Equal(t, http.StatusNoContent, w.Do(servertest.Alice, http.MethodDelete, uploads[0], app, nil, nil).StatusCode)
	require.Equal(t, http.StatusAccepted, send(uploads[2]).StatusCode)
}

func TestAHoldWhoseDiskIsFullIsSaidToBe(t *testing.T) {
	full := &atomic.Value{}
	full.Store("")
	w := servertest.Start(t, servertest.Options{WrapHold: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if at := full.Load().(string); at != "" && strings.HasSuffix(r.URL.Path, at) {
				xrpc.WriteError(w, xrpc.Errorf(http.StatusInsufficientStorage, "StorageFull", "The disk is full."))
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	blob := []byte("does not fit")
	path := "/v2/" + app + "/blobs/uploads/?digest=" + string(digest.FromBytes(blob))
	for _, at := range []string{"initiateUpload", "putBlob"} { // the first blob begins as an upload, those after it come whole
		full.Store(at)
		refuses(t, w.Do(servertest.Alice, http.MethodPost, path, app, bytes.NewReader(blob), nil), http.StatusInsufficientStorage, "UNAVAILABLE", "has no disk space left. Ask its captain to make room")
		nothingVisible(t, w, digest.FromBytes(blob))
		full.Store("")
		push(t, w, app, []byte("fits"))
	}
	push(t, w, app, blob)
}

// A private hold does not say what others have in it: not by HEAD, not by a mount.
func TestABlobOfAnotherMemberLooksLikeNone(t *testing.T) {
	for kind, public := range map[string]string{"private": "false", "public": "true"} {
		t.Run(kind, func(t *testing.T) {
			w := servertest.Start(t, servertest.Options{HoldEnv: map[string]string{names.HoldPublic: public}})
			alices, bobsOwn := []byte("alice's"), "bob's"
			d := push(t, w, app, alices)
			own := pushAsBob(t, w, bobsOwn)
			absent := w.Do(servertest.Bob, http.MethodHead, "/v2/"+bobs+"/blobs/"+string(digest.FromString("absent")), bobs, nil, nil)
			other := w.Do(servertest.Bob, http.MethodHead, "/v2/"+bobs+"/blobs/"+string(d), bobs, nil, nil)
			require.Equal(t, http.StatusNotFound, other.StatusCode)
			for _, h := range []string{"Content-Type", "X-Atcr-Error", "Cache-Control", "ETag", "Docker-Content-Digest"} {
				require.Equal(t, absent.Header.Get(h), other.Header.Get(h), h)
			}

			mount := func(d digest.Digest, from string) int {
				return w.Do(servertest.Bob, http.MethodPost, "/v2/bob.test/other/blobs/uploads/?mount="+string(d)+"&from="+from, "bob.test/other", nil, nil).StatusCode
			}
			require.Equal(t, http.StatusAccepted, mount(d, app), "an upload begins: the blob is not bob's")
			require.Equal(t, http.StatusCreated, mount(own, bobs))
			require.Equal(t, http.StatusOK, w.Do(servertest.Bob, http.MethodHead, "/v2/bob.test/other/blobs/"+string(own), "bob.test/other", nil, nil).StatusCode)
		})
	}
}

func TestRangesOfAStreamedBlob(t *testing.T) {
	w := servertest.Start(t, servertest.Options{Proxy: true})
	path := "/v2/" + app + "/blobs/" + string(push(t, w, app, []byte("0123456789")))
	for asked, want := range map[string]struct {
		status     int
		body, span string
	}{
		"bytes=2-4":   {206, "234", "bytes 2-4/10"},
		"bytes=7-":    {206, "789", "bytes 7-9/10"},
		"bytes=-3":    {206, "789", "bytes 7-9/10"},
		"bytes=-99":   {206, "0123456789", "bytes 0-9/10"},
		"bytes=8-100": {206, "89", "bytes 8-9/10"},
		"bytes=10-":   {416, "", "bytes */10"},
		"":            {200, "0123456789", ""},
	} {
		header := http.Header{}
		if asked != "" {
			header.Set("Range", asked)
		}
		resp := w.Do("", http.MethodGet, path, app, nil, header)
		require.Equal(t, want.status, resp.StatusCode, asked)
		require.Equal(t, want.span, resp.Header.Get("Content-Range"), asked)
		if body, err := io.ReadAll(resp.Body); want.status != 416 {
			require.NoError(t, err)
			require.Equal(t, want.body, string(body), asked)
		}
	}
}
