package server_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

func TestAClientMayRepeatTheLastPUTWhoseAnswerItDidNotGet(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	blob := []byte("pushed once, acknowledged twice")
	d := digest.FromBytes(blob)
	loc := start(t, w)
	for range 2 {
		resp := w.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(d), app, bytes.NewReader(blob), nil)
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		require.Equal(t, string(d), resp.Header.Get("Docker-Content-Digest"))
	}
	other := digest.FromString("other")
	refuses(t, w.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(other), app, nil, nil), 404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
	require.Equal(t, http.StatusAccepted, w.Do(servertest.Alice, http.MethodDelete, "/v2/"+app+"/blobs/"+string(d), app, nil, nil).StatusCode)
	refuses(t, w.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(d), app, nil, nil), 404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
}

func TestAChunkOfUnknownLengthIsAsLongAsItsRange(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	unsized := func(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} } // sent with chunked encoding
	for _, length := range []int{5, 15} {
		loc := start(t, w)
		resp := w.Do(servertest.Alice, http.MethodPatch, loc, app, unsized(make([]byte, length)), http.Header{"Content-Range": {"0-9"}})
		refuses(t, resp, 400, "SIZE_INVALID", "Content-Range")
		resp = w.Do(servertest.Alice, http.MethodGet, loc, app, nil, nil)
		require.Equal(t, "0-0", resp.Header.Get("Range"), "nothing of it was kept")
		resp = w.Do(servertest.Alice, http.MethodPatch, loc, app, unsized(make([]byte, 10)), http.Header{"Content-Range": {"0-9"}})
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
		require.Equal(t, "0-9", resp.Header.Get("Range"))
	}
}

func TestSeveralRangesOfAStreamedBlobAreAnsweredWithAllOfIt(t *testing.T) {
	w := servertest.Start(t, servertest.Options{Proxy: true})
	blob := []byte("0123456789")
	resp := w.Do("", http.MethodGet, "/v2/"+app+"/blobs/"+string(push(t, w, app, blob)), app, nil, http.Header{"Range": {"bytes=0-1,4-5"}})
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, "%s", got)
	require.Equal(t, string(blob), string(got))
}
