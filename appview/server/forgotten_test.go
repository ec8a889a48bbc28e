package server_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
	"weak"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// What a server remembers of a request is bounded by what it counts of it, and not by the line that these are parts of.
func TestNothingThatIsRememberedKeepsTheLineOfARequest(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	blob := push(t, w, app, []byte("{}"))
	image := manifestOf(blob, blob, 2, 2)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", image).StatusCode)
	manifest := string(digest.FromBytes(image))
	other := digest.FromString("other").String()
	fresh := w.Fresh()
	handler := fresh.AppView.Handler()
	all := fresh.Token(servertest.Alice, "repository:"+app+":pull,push,delete", "repository:"+servertest.Alice+"/new:pull,push", "registry:catalog:*")
	did, err := w.Account(servertest.Bob).DID.AtIdentifier().AsDID()
	require.NoError(t, err)
	bob := "did_plc_" + did.Identifier()
	anybody := fresh.Token("", "repository:"+bob+"/app:pull", "repository:bob.test/app:pull")
	for _, c := range []struct {
		token, line string
		status      int
	}{
		{"", "GET /auth/token?scope=repository:carol.test/app:pull&scope=repository:" + bob + "/app:pull", 200},
		{"", "GET /v2/" + app + "/tags/list?", 401},
		{all, "GET /v2/_catalog?last=a", 200},
		{all, "GET /v2/" + app + "/tags/list?last=a", 200},
		{all, "GET /v2/" + app + "/manifests/v1?", 200},
		{all, "HEAD /v2/" + app + "/manifests/" + manifest + "?", 200},
		{all, "GET /v2/" + app + "/manifests/none?", 404},
		{all, "GET /v2/" + app + "/manifests/" + other + "?", 404},
		{all, "GET /v2/" + servertest.Alice + "/new/manifests/none?", 404},
		{anybody, "GET /v2/bob.test/app/manifests/none?", 404},
		{anybody, "GET /v2/" + bob + "/app/tags/list?", 404},
		{all, "GET /v2/" + app + "/referrers/" + manifest + "?artifactType=a/b&last=" + other, 200},
		{all, "GET /v2/" + app + "/blobs/" + string(blob) + "?", 307},
		{all, "HEAD /v2/" + app + "/blobs/" + string(blob) + "?", 200},
		{all, "HEAD /v2/" + app + "/blobs/" + other + "?", 404},
		{all, "POST /v2/" + servertest.Alice + "/new/blobs/uploads/?mount=" + string(blob) + "&from=" + app, 201},
		{all, "POST /v2/" + servertest.Alice + "/new/blobs/uploads/?mount=" + other + "&from=bob.test/app", 202},
		{all, "POST /v2/" + app + "/blobs/uploads/?digest=" + string(digest.FromString("")), 201},
		{all, "DELETE /v2/" + app + "/manifests/none?", 404},
	} {
		t.Run(c.line, func(t *testing.T) {
			at, status := lineOf(t, handler, c.token, c.line)
			require.Equal(t, c.status, status)
			require.Eventually(t, func() bool {
				runtime.GC()
				return at.Value() == nil
			}, time.Minute, time.Millisecond, "the request is gone, and its line is kept")
		})
	}
	hold := "GET /xrpc/com.atproto.sync.getBlob?" + url.Values{"did": {string(w.Account(servertest.Alice).DID)}, "cid": {string(blob)}}.Encode()
	at, status := lineOf(t, w.Hold.Handler(), "", hold)
	require.Equal(t, http.StatusTemporaryRedirect, status)
	require.Eventually(t, func() bool {
		runtime.GC()
		return at.Value() == nil
	}, time.Minute, time.Millisecond)
}

// lineOf has a handler serve a request, whose query gets longer, and gives where its first line is while anything keeps it.
func lineOf(t *testing.T, h http.Handler, token, line string) (weak.Pointer[byte], int) {
	t.Helper()
	text := line + "&pad=" + strings.Repeat("x", 8<<10) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
	if token != "" {
		text += "Authorization: Bearer " + token + "\r\n"
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
	require.NoError(t, err)
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, req.WithContext(t.Context()))
	return weak.Make(unsafe.StringData(req.RequestURI)), answer.Code
}
