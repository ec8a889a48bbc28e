package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/server/servertest"
)

const app = "alice.test/app"

// answer is what a client gets to see of a failure.
type answer struct {
	status  int
	code    string
	message string
	header  http.Header
}

func read(t *testing.T, resp *http.Response) answer {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var out struct {
		Errors []struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal(body, &out), "status %d, not the OCI error form: %s", resp.StatusCode, body)
	require.Len(t, out.Errors, 1)
	return answer{resp.StatusCode, out.Errors[0].Code, out.Errors[0].Message, resp.Header}
}

// refuses checks status and code, and that the message is a sentence about says and one that tells what to do.
func refuses(t *testing.T, resp *http.Response, status int, code, says string) {
	t.Helper()
	a := read(t, resp)
	require.Equal(t, status, a.status, "%+v", a)
	require.Equal(t, code, a.code, "%+v", a)
	require.Contains(t, a.message, says)
	require.GreaterOrEqual(t, strings.Count(a.message, ". ")+strings.Count(a.message, "; ")+strings.Count(a.message, ": "), 1,
		"a sentence and a remedy: %s", a.message)
	require.True(t, strings.HasSuffix(a.message, "."), a.message)
}

// push uploads a blob in one request.
func push(t testing.TB, w *servertest.World, repository string, blob []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(blob)
	resp := w.Do(servertest.Alice, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+string(d), repository, bytes.NewReader(blob), nil)
	require.Equal(t, http.StatusCreated, resp.StatusCode)
	return d
}

func manifestOf(config, layer digest.Digest, configSize, layerSize int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},
		"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%s","size":%d}]}`, config, configSize, layer, layerSize)
}

func putManifest(w *servertest.World, who, repository, ref string, body []byte) *http.Response {
	return w.Do(who, http.MethodPut, "/v2/"+repository+"/manifests/"+ref, repository, bytes.NewReader(body),
		http.Header{"Content-Type": {"application/vnd.oci.image.manifest.v1+json"}})
}

// nothingVisible checks that neither blob nor record came to light.
func nothingVisible(t *testing.T, w *servertest.World, d digest.Digest) {
	t.Helper()
	resp := w.Do(servertest.Alice, http.MethodHead, "/v2/"+app+"/blobs/"+string(d), app, nil, nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode, "no partial blob is visible")
	require.Empty(t, recordsOf(t, w, records.CollectionManifest), "no record was written")
	require.Empty(t, recordsOf(t, w, records.CollectionTag), "no record was written")
}

func recordsOf(t *testing.T, w *servertest.World, collection string) []json.RawMessage {
	t.Helper()
	resp, err := http.Get(w.Devnet.URL() + "/xrpc/com.atproto.repo.listRecords?repo=" + string(w.Account(servertest.Alice).DID) + "&collection=" + collection)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var out struct{ Records []json.RawMessage }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	return out.Records
}

func TestBadUploads(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	blob := []byte("some bytes of a layer")
	d, other := digest.FromBytes(blob), digest.FromString("others")

	t.Run("a wrong digest", func(t *testing.T) {
		for _, path := range []string{"/v2/" + app + "/blobs/uploads/?digest=" + string(other)} {
			resp := w.Do(servertest.Alice, http.MethodPost, path, app, bytes.NewReader(blob), nil)
			refuses(t, resp, 400, "DIGEST_INVALID", "nothing was kept")
		}
		loc := start(t, w)
		resp := w.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(other), app, bytes.NewReader(blob), nil)
		refuses(t, resp, 400, "DIGEST_INVALID", "nothing was kept")
		refuses(t, w.Do(servertest.Alice, http.MethodGet, loc, app, nil, nil), 404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
		nothingVisible(t, w, other)
		nothingVisible(t, w, d)
	})
	t.Run("a digest that is none", func(t *testing.T) {
		for _, bad := range []string{"sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "SHA256:" + d.Encoded(), ""} {
			resp := w.Do(servertest.Alice, http.MethodPut, start(t, w)+"?digest="+bad, app, bytes.NewReader(blob), nil)
			refuses(t, resp, 400, "DIGEST_INVALID", "is not a digest")
		}
	})
	t.Run("a truncated upload", func(t *testing.T) {
		loc := start(t, w)
		status := truncated(t, w, "PATCH "+loc, 1000, blob)
		require.True(t, status == 0 || status == 400, "the connection broke; status %d", status)
		resp := w.Do(servertest.Alice, http.MethodGet, loc, app, nil, nil)
		require.Equal(t, http.StatusNoContent, resp.StatusCode)
		require.Equal(t, "0-0", resp.Header.Get("Range"), "the upload stands where it stood")
		resp = w.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob), nil)
		require.Equal(t, http.StatusAccepted, resp.StatusCode, "and goes on")
		nothingVisible(t, w, d)
		resp = w.Do(servertest.Alice, http.MethodPut, loc+"?digest="+string(d), app, nil, nil)
		require.Equal(t, http.StatusCreated, resp.StatusCode)
	})
	t.Run("chunks out of order", func(t *testing.T) {
		loc := start(t, w)
		resp := w.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob), http.Header{"Content-Range": {"5-25"}})
		refuses(t, resp, 416, "RANGE_INVALID", "at byte 0")
		resp = w.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob), http.Header{"Content-Range": {"bytes 0"}})
		refuses(t, resp, 400, "BLOB_UPLOAD_INVALID", "is not a range")
		resp = w.Do(servertest.Alice, http.MethodPatch, loc, app, bytes.NewReader(blob), http.Header{"Content-Range": {"0-5"}})
		refuses(t, resp, 400, "SIZE_INVALID", "do not agree")
	})
	t.Run("an upload of somebody else", func(t *testing.T) {
		loc := strings.Replace(start(t, w), app, "bob.test/app", 1)
		refuses(t, w.Do(servertest.Bob, http.MethodPatch, loc, "bob.test/app", bytes.NewReader(blob), nil), 404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
	})
}

// start opens an upload and gives its location.
func start(t *testing.T, w *servertest.World) string {
	t.Helper()
	resp := w.Do(servertest.Alice, http.MethodPost, "/v2/"+app+"/blobs/uploads/", app, nil, nil)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	loc := resp.Header.Get("Location")
	require.True(t, strings.HasPrefix(loc, "/v2/") && !strings.ContainsAny(loc, "?#"), "a bare path: %s", loc)
	return loc
}

// truncated promises length bytes, sends body, and hangs up. It gives the status, 0 when there is none.
func truncated(t *testing.T, w *servertest.World, line string, length int, body []byte) int {
	t.Helper()
	conn, err := net.Dial("tcp", w.Host())
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		line, w.Host(), w.Token(servertest.Alice, "repository:"+app+":pull,push"), length, body)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer, _ := io.ReadAll(conn) // the server may just close
	var status int
	_, _ = fmt.Sscanf(string(answer), "HTTP/1.1 %d", &status)
	return status
}

func TestBadManifests(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	absent := digest.FromString("absent")
	good := manifestOf(config, layer, 2, 5)
	for name, c := range map[string]struct {
		ref          string
		body         []byte
		status       int
		code, remark string
	}{
		"an absent layer":      {"v1", manifestOf(config, absent, 2, 5), 400, "MANIFEST_BLOB_UNKNOWN", string(absent)},
		"an absent config":     {"v1", manifestOf(absent, layer, 2, 5), 400, "MANIFEST_BLOB_UNKNOWN", string(absent)},
		"another size":         {"v1", manifestOf(config, layer, 2, 6), 400, "MANIFEST_INVALID", "has 6 bytes, but it has 5"},
		"5 MiB":                {"v1", append(bytes.Repeat([]byte(" "), 5<<20), good...), 413, "SIZE_INVALID", "larger than 4194304 bytes"},
		"no JSON":              {"v1", []byte("hello"), 400, "MANIFEST_INVALID", "not JSON"},
		"another digest":       {string(absent), good, 400, "DIGEST_INVALID", "nothing was kept"},
		"a bad tag":            {"-v1", good, 400, "TAG_INVALID", "is not a tag"},
		"layers and manifests": {"v1", bytes.Replace(good, []byte(`"layers"`), []byte(`"manifests":[],"layers"`), 1), 400, "MANIFEST_INVALID", "neither"},
		"another type":         {"v1", bytes.Replace(good, []byte("image.manifest"), []byte("image.index"), 1), 400, "MANIFEST_INVALID", "Content-Type"},
		"an index of the absent": {"v1", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
			"digest":"%s","size":7}]}`, absent), 400, "MANIFEST_INVALID", "must not have manifests"},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, putManifest(w, servertest.Alice, app, c.ref, c.body), c.status, c.code, c.remark)
			require.Empty(t, recordsOf(t, w, records.CollectionManifest))
			require.Empty(t, recordsOf(t, w, records.CollectionTag))
		})
	}
	t.Run("an entry of an index that is absent", func(t *testing.T) {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
			{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":7}]}`, absent)
		resp := w.Do(servertest.Alice, http.MethodPut, "/v2/"+app+"/manifests/v1", app, bytes.NewReader(body),
			http.Header{"Content-Type": {"application/vnd.oci.image.index.v1+json"}})
		refuses(t, resp, 400, "MANIFEST_BLOB_UNKNOWN", string(absent))
	})
	t.Run("a truncated manifest", func(t *testing.T) {
		truncated(t, w, "PUT /v2/"+app+"/manifests/v1", len(good), good[:100])
		require.Empty(t, recordsOf(t, w, records.CollectionManifest))
	})
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", good).StatusCode, "the good one is accepted")
}

func TestBadNames(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	get := func(path, repository string) *http.Response {
		return w.Do("", http.MethodGet, path, repository, nil, nil)
	}
	for _, bad := range []string{"alice.test/App", "alice.test/a..b", "alice.test/-a", "alice.test/a___b", "alice.test/" + strings.Repeat("a", 260)} {
		refuses(t, get("/v2/"+bad+"/manifests/v1", app), 400, "NAME_INVALID", "is not valid")
	}
	refuses(t, get("/v2/alice.test/manifests/v1", app), 400, "NAME_INVALID", "is not valid")
	refuses(t, get("/v2/alice.test/app/nouns/v1", app), 404, "NAME_INVALID", "not part of the OCI Distribution API")
	refuses(t, get("/v2/nobody.test/app/manifests/v1", "nobody.test/app"), 404, "NAME_UNKNOWN", "no account")
	refuses(t, get("/v2/"+app+"/manifests/v1", app), 404, "MANIFEST_UNKNOWN", "no repository")
	refuses(t, get("/v2/"+app+"/tags/list", app), 404, "NAME_UNKNOWN", "no repository")
	refuses(t, get("/v2/"+app+"/tags/list?n=-1", app), 400, "PAGINATION_NUMBER_INVALID", "page size")
	refuses(t, w.Do("", http.MethodPost, "/v2/"+app+"/manifests/v1", app, nil, nil), 405, "UNSUPPORTED", "not supported")
}

func TestTokensAreCheckedForExactlyTheRightThatIsNeeded(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	send := func(method, path, token string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, w.URL+path, nil)
		require.NoError(t, err)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	challenged := func(resp *http.Response, scope, problem string) {
		t.Helper()
		c := resp.Header.Get("WWW-Authenticate")
		require.Contains(t, c, `realm="`+w.URL+`/auth/token"`)
		require.Contains(t, c, `service="127.0.0.1"`)
		if scope != "" {
			require.Contains(t, c, `scope="`+scope+`"`)
		}
		if problem != "" {
			require.Contains(t, c, `error="`+problem+`"`)
		}
	}
	resp := send("GET", "/v2/", "")
	challenged(resp, "", "")
	refuses(t, resp, 401, "UNAUTHORIZED", "token is needed")

	resp = send("POST", "/v2/"+app+"/blobs/uploads/?mount="+string(digest.FromString("x"))+"&from=alice.test/other", "")
	challenged(resp, "repository:"+app+":pull,push repository:alice.test/other:pull", "")

	resp = send("GET", "/v2/"+app+"/tags/list", "not.a.token")
	challenged(resp, "repository:"+app+":pull", "invalid_token")
	refuses(t, resp, 401, "UNAUTHORIZED", "not valid")

	// A token for one repository and action says nothing about any other.
	pullOnly := w.Token(servertest.Alice, "repository:"+app+":pull")
	for _, c := range []struct{ method, path, scope string }{
		{"PUT", "/v2/" + app + "/manifests/v1", "repository:" + app + ":pull,push"},
		{"DELETE", "/v2/" + app + "/manifests/v1", "repository:" + app + ":delete"},
		{"GET", "/v2/" + app + "2/tags/list", "repository:" + app + "2:pull"},
		{"GET", "/v2/_catalog", "registry:catalog:*"},
	} {
		resp := send(c.method, c.path, pullOnly)
		challenged(resp, c.scope, "insufficient_scope")
		refuses(t, resp, 401, "UNAUTHORIZED", "does not allow")
	}
	// Nobody gets rights over somebody else's repositories.
	bob := w.Token(servertest.Bob, "repository:"+app+":pull,push,delete")
	refuses(t, send("PUT", "/v2/"+app+"/manifests/v1", bob), 401, "UNAUTHORIZED", "your own repositories")

	resp = send("GET", "/v2/"+app+"/tags/list", expired(t, w))
	challenged(resp, "repository:"+app+":pull", "invalid_token")
	refuses(t, resp, 401, "UNAUTHORIZED", "has expired")
}

// expired is a token that the server's own key signed ten minutes ago for one minute.
func expired(t *testing.T, w *servertest.World) string {
	t.Helper()
	cfg, err := config.Load(w.Environ())
	require.NoError(t, err)
	keys, err := auth.OpenKeys(auth.KeyFiles{KeyPath: cfg.AuthKeyPath, CertPath: cfg.AuthCertPath, Required: true}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	issuer := auth.Issuer{Keys: keys, Service: cfg.ServiceName, Life: time.Minute, Now: func() time.Time { return time.Now().Add(-10 * time.Minute) }}
	token, _, err := issuer.Issue(auth.Subject{DID: w.Account(servertest.Alice).DID}, []auth.Access{{Type: "repository", Name: app, Actions: []string{"pull"}}})
	require.NoError(t, err)
	return token
}
