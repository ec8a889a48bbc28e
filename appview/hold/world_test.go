package hold_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage/s3test"
)

// Accounts of every test: alice is the captain.
const (
	alice   = "alice.test"
	bob     = "bob.test"
	carol   = "carol.test"
	mallory = "mallory.test"
	nobody  = "" // sends no token
)

// world is a PLC directory and a PDS with accounts, and a hold.
type world struct {
	t        *testing.T
	net      *devnet.Net
	cfg      hold.Config
	deps     hold.Deps
	hold     *hold.Server
	url      string // of the hold
	srv      *httptest.Server
	sessions map[string]string
	between  atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler)] // requests and the PDS
}

// newWorld starts both; change may alter the hold's configuration.
func newWorld(t *testing.T, change func(*hold.Config)) *world {
	t.Helper()
	accounts := []devnet.Account{{Handle: alice}, {Handle: bob}, {Handle: carol}, {Handle: mallory}}
	w := &world{t: t, sessions: map[string]string{}}
	dev, err := devnet.Start(t.Context(), devnet.Config{Dir: t.TempDir(), Accounts: accounts, Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if f := w.between.Load(); f != nil {
				(*f)(rw, r, next)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = dev.Close() })
	w.net = dev
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.url = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	w.cfg = testConfig(t, dev, w.url)
	if change != nil {
		change(&w.cfg)
	}
	w.open(l)
	t.Cleanup(w.close)
	return w
}

func testConfig(t *testing.T, dev *devnet.Net, holdURL string) hold.Config {
	t.Helper()
	dir := t.TempDir()
	c, err := hold.LoadFrom(map[string]string{
		"HOLD_PUBLIC_URL": holdURL, "HOLD_OWNER": dev.Account(alice).DID.String(), "HOLD_PLC_URL": dev.URL(),
		"HOLD_DATABASE_DIR": filepath.Join(dir, "db"), "TEST_MODE": "true",
		"STORAGE_DRIVER": "filesystem", "STORAGE_ROOT_DIR": filepath.Join(dir, "blobs"),
	})
	require.NoError(t, err)
	return c
}

// onS3 puts the hold's blobs on a real S3 server.
func onS3(t *testing.T) func(*hold.Config) {
	srv := s3test.Start(t)
	return func(c *hold.Config) {
		c.StorageDriver, c.S3Bucket, c.S3Endpoint = "s3", srv.Bucket(t), srv.Endpoint
		c.AWSRegion, c.AWSAccessKeyID, c.AWSSecretAccessKey = srv.Region, srv.AccessKey, srv.SecretKey
	}
}

func (w *world) open(l net.Listener) {
	w.t.Helper()
	var err error
	w.hold, err = hold.New(w.t.Context(), w.cfg, w.deps)
	require.NoError(w.t, err)
	w.srv = httptest.NewUnstartedServer(w.hold.Handler())
	w.srv.Listener.Close()
	w.srv.Listener = l
	w.srv.Start()
}

func (w *world) close() {
	if w.srv == nil {
		return
	}
	w.srv.Close()
	require.NoError(w.t, w.hold.Close(context.Background()))
	w.srv = nil
}

// restart closes the hold and opens it again on the same folders and address.
func (w *world) restart(change func(*hold.Config)) {
	w.t.Helper()
	addr := w.srv.Listener.Addr().String()
	w.close()
	if change != nil {
		change(&w.cfg)
	}
	l, err := net.Listen("tcp", addr)
	require.NoError(w.t, err)
	w.open(l)
}

// reopen opens a closed hold on its address.
func (w *world) reopen() {
	w.t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(strings.Replace(w.url, "localhost", "127.0.0.1", 1), "http://"))
	require.NoError(w.t, err)
	w.open(l)
}

func (w *world) did(handle string) syntax.DID { return w.net.Account(handle).DID }

// token asks the account's PDS for a service token for the hold.
func (w *world) token(handle string) string {
	w.t.Helper()
	if handle == nobody {
		return ""
	}
	var out struct {
		Token string `json:"token"`
	}
	a := w.send(http.MethodGet, w.net.URL()+"/xrpc/com.atproto.server.getServiceAuth?aud="+url.QueryEscape(w.hold.DID().String()), w.session(handle), nil)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a.json(&out)
	return out.Token
}

// session is an access token of the account for its PDS.
func (w *world) session(handle string) string {
	w.t.Helper()
	access := w.sessions[handle]
	if access == "" {
		var out struct {
			AccessJWT string `json:"accessJwt"`
		}
		body, _ := json.Marshal(map[string]string{"identifier": handle, "password": w.net.Account(handle).AppPassword})
		resp, err := http.Post(w.net.URL()+"/xrpc/com.atproto.server.createSession", "application/json", bytes.NewReader(body))
		require.NoError(w.t, err)
		defer resp.Body.Close()
		require.Equal(w.t, http.StatusOK, resp.StatusCode)
		require.NoError(w.t, json.NewDecoder(resp.Body).Decode(&out))
		access = out.AccessJWT
		w.sessions[handle] = access
	}
	return access
}

// reply is a whole answer.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
	length int64
}

func (a reply) json(into any) { require.NoError(a.t, json.Unmarshal(a.body, into), "%s", a.body) }

// errorName is the XRPC error of an answer, whose message must be a sentence.
func (a reply) errorName() string {
	a.t.Helper()
	var e struct{ Error, Message string }
	a.json(&e)
	require.NotEmpty(a.t, e.Error)
	require.True(a.t, strings.HasSuffix(e.Message, "."), "message %q", e.Message)
	return e.Error
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (w *world) send(method, target, token string, in any) reply {
	w.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		require.NoError(w.t, err)
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, target, body)
	require.NoError(w.t, err)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return w.do(req)
}

func (w *world) do(req *http.Request) reply {
	w.t.Helper()
	resp, err := noRedirects.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return reply{w.t, resp.StatusCode, resp.Header, b, resp.ContentLength}
}

// call posts to a method of the hold as an account.
func (w *world) call(handle, method string, in any) reply {
	w.t.Helper()
	return w.send(http.MethodPost, w.url+"/xrpc/"+method, w.token(handle), in)
}

// query gets a method of the hold as an account.
func (w *world) query(handle, method string, params url.Values) reply {
	w.t.Helper()
	return w.send(http.MethodGet, w.url+"/xrpc/"+method+"?"+params.Encode(), w.token(handle), nil)
}

type object = map[string]any

// begin starts an upload and returns its id.
func (w *world) begin(handle string) string {
	w.t.Helper()
	var out struct{ UploadID string }
	a := w.call(handle, "io.atcr.hold.initiateUpload", object{"digest": "uploads/temporary"})
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a.json(&out)
	return out.UploadID
}

// part uploads one part and names it.
func (w *world) part(handle, id string, n int, b []byte) object {
	w.t.Helper()
	u := w.partURL(handle, id, n)
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, u, bytes.NewReader(b))
	require.NoError(w.t, err)
	a := w.do(req)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	return object{"partNumber": n, "etag": a.header.Get("ETag")}
}

func (w *world) partURL(handle, id string, n int) string {
	w.t.Helper()
	var out struct{ URL, Method string }
	a := w.call(handle, "io.atcr.hold.getPartUploadUrl", object{"uploadId": id, "partNumber": n})
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a.json(&out)
	require.Equal(w.t, http.MethodPut, out.Method)
	return out.URL
}

func (w *world) complete(handle, id string, d digest.Digest, parts ...object) reply {
	w.t.Helper()
	if parts == nil {
		parts = []object{}
	}
	return w.call(handle, "io.atcr.hold.completeUpload", object{"uploadId": id, "digest": d, "parts": parts})
}

// push uploads a blob.
func (w *world) push(handle string, parts ...[]byte) digest.Digest {
	w.t.Helper()
	id := w.begin(handle)
	var named []object
	for i, b := range parts {
		named = append(named, w.part(handle, id, i+1, b))
	}
	d := digest.FromBytes(bytes.Join(parts, nil))
	a := w.complete(handle, id, d, named...)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	return d
}

func blobParams(owner syntax.DID, d digest.Digest) url.Values {
	return url.Values{"did": {owner.String()}, "cid": {d.String()}}
}

// getBlob asks for a blob of owner's as handle.
func (w *world) getBlob(handle, owner string, d digest.Digest) reply {
	w.t.Helper()
	return w.query(handle, "com.atproto.sync.getBlob", blobParams(w.did(owner), d))
}

// pull reads a blob the way a client does: by the redirect.
func (w *world) pull(handle, owner string, d digest.Digest, header http.Header) reply {
	w.t.Helper()
	a := w.getBlob(handle, owner, d)
	require.Equal(w.t, http.StatusTemporaryRedirect, a.status, "%s", a.body)
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, a.header.Get("Location"), nil)
	require.NoError(w.t, err)
	for k, v := range header {
		req.Header[k] = v
	}
	return w.do(req)
}

// addCrew lets the captain write a crew record by com.atproto.repo.createRecord.
func (w *world) addCrew(handle string, permissions ...string) {
	w.t.Helper()
	a := w.call(alice, "com.atproto.repo.createRecord", object{
		"repo": w.hold.DID(), "collection": "io.atcr.hold.crew",
		"record": object{"$type": "io.atcr.hold.crew", "member": w.did(handle), "role": "member",
			"permissions": permissions, "addedAt": "2026-01-01T00:00:00.000Z"},
	})
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
}

// removeCrew lets an account delete a member's crew records.
func (w *world) removeCrew(by, member string) {
	w.t.Helper()
	for _, r := range w.records("io.atcr.hold.crew") {
		if r.Value["member"] == w.did(member).String() {
			rkey := r.URI[strings.LastIndexByte(r.URI, '/')+1:]
			a := w.call(by, "com.atproto.repo.deleteRecord", object{"repo": w.hold.DID(), "collection": "io.atcr.hold.crew", "rkey": rkey})
			require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
		}
	}
}

type record struct {
	URI   string
	Value object
}

// records lists a collection of the hold's repository, as anybody can.
func (w *world) records(collection string) []record {
	w.t.Helper()
	var out struct{ Records []record }
	a := w.query(nobody, "com.atproto.repo.listRecords", url.Values{"repo": {w.hold.DID().String()}, "collection": {collection}, "limit": {"100"}})
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a.json(&out)
	return out.Records
}
