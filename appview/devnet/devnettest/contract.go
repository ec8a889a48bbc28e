// Package devnettest is the contract that a development PDS shares with the reference PDS (@atproto/pds): one suite, run
// against devnet and, where Node and the npm packages are at hand, against the reference.
package devnettest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/stretchr/testify/require"
)

// Contract runs the suite. It leaves records in collections of its own behind.
func Contract(t *testing.T, target Target) {
	c := newClient(t, target.URL)
	s := &suite{Target: target, anon: c}
	session := c.post("com.atproto.server.createSession", obj{"identifier": target.Handle, "password": target.Password}).ok()
	s.did, s.full = session.str("did"), c.as(session.str("accessJwt"))
	made := s.full.post("com.atproto.server.createAppPassword", obj{"name": "contract " + rand.Text()[:8]}).ok()
	s.appName, s.appPassword = made.str("name"), made.str("password")
	s.app = c.as(c.post("com.atproto.server.createSession", obj{"identifier": target.Handle, "password": s.appPassword}).ok().str("accessJwt"))
	// A collection of its own for each run, so that the suite can be repeated against one server.
	s.collection = "test.contract.c" + strings.ToLower(rand.Text()[:8])

	t.Run("an account has an identity", s.identity)
	t.Run("sessions", s.sessions)
	t.Run("app passwords", s.appPasswords)
	t.Run("service tokens", s.serviceTokens)
	t.Run("records", s.records)
	t.Run("record keys", s.recordKeys)
	t.Run("values", s.values)
	t.Run("swaps", s.swaps)
	t.Run("applyWrites", s.applyWrites)
	t.Run("listing", s.listing)
	t.Run("blobs", s.blobs)
	t.Run("sync", s.sync)
	t.Run("firehose", s.firehose)
	t.Run("refusals", s.refusals)
}

type suite struct {
	Target
	did                  string
	anon, full, app      *client
	appName, appPassword string
	collection           string
}

func (s *suite) record(text string) obj { return obj{"$type": s.collection, "text": text} }

func (s *suite) put(c *client, rkey string, record any) answer {
	c.t.Helper()
	return c.post("com.atproto.repo.putRecord", obj{"repo": s.did, "collection": s.collection, "rkey": rkey, "record": record})
}

func (s *suite) getRecord(c *client, rkey string) answer {
	c.t.Helper()
	return c.get("com.atproto.repo.getRecord", "repo", s.did, "collection", s.collection, "rkey", rkey)
}

func (s *suite) head(c *client) string {
	c.t.Helper()
	return c.get("com.atproto.sync.getLatestCommit", "did", s.did).ok().str("cid")
}

func (s *suite) identity(t *testing.T) {
	c := s.anon.in(t)
	require.Regexp(t, `^did:plc:[a-z2-7]{24}$`, s.did)
	require.Equal(t, s.did, c.get("com.atproto.identity.resolveHandle", "handle", s.Handle).ok().str("did"))
	c.get("com.atproto.identity.resolveHandle", "handle", "nobody-has-this.test").fails(http.StatusBadRequest, "HandleNotFound")

	wellKnown := c.do(http.MethodGet, "/.well-known/atproto-did", "", nil, s.Handle)
	require.Equal(t, http.StatusOK, wellKnown.status)
	require.Equal(t, s.did, strings.TrimSpace(string(wellKnown.body)))
	require.Equal(t, http.StatusNotFound, c.do(http.MethodGet, "/.well-known/atproto-did", "", nil, "nobody-has-this.test").status)

	doc := s.document(t)
	require.Equal(t, s.did, string(doc.DID))
	require.Contains(t, doc.AlsoKnownAs, "at://"+s.Handle)
	require.Equal(t, s.URL, doc.PDSEndpoint())

	directory := newClient(t, s.PLCURL)
	require.Equal(t, http.StatusNotFound, directory.do(http.MethodGet, "/did:plc:"+strings.Repeat("a", 24), "", nil, "").status)
	require.Equal(t, s.did, directory.do(http.MethodGet, "/"+s.did+"/data", "", nil, "").ok().str("did"))

	described := c.get("com.atproto.repo.describeRepo", "repo", s.Handle).ok()
	require.Equal(t, s.Handle, described.str("handle"))
	require.Equal(t, true, described["handleIsCorrect"])
	require.NotEmpty(t, c.get("com.atproto.server.describeServer").ok().str("did"))
	require.Equal(t, http.StatusOK, c.do(http.MethodGet, "/xrpc/_health", "", nil, "").status)
}

// document is the account's identity, as everybody reads it from the directory.
func (s *suite) document(t *testing.T) identity.Identity {
	t.Helper()
	a := newClient(t, s.PLCURL).do(http.MethodGet, "/"+s.did, "", nil, "")
	require.Equal(t, http.StatusOK, a.status)
	var doc identity.DIDDocument
	require.NoError(t, json.Unmarshal(a.body, &doc))
	return identity.ParseIdentity(&doc)
}

func (s *suite) sessions(t *testing.T) {
	c := s.anon.in(t)
	login := obj{"identifier": s.Handle, "password": s.appPassword}
	first := c.post("com.atproto.server.createSession", login).ok()
	require.Equal(t, s.Handle, first.str("handle"))
	require.Equal(t, "com.atproto.appPass", claims(t, first.str("accessJwt")).str("scope"))
	require.Equal(t, s.did, claims(t, first.str("accessJwt")).str("sub"))
	c.post("com.atproto.server.createSession", obj{"identifier": s.did, "password": s.appPassword}).ok()
	c.post("com.atproto.server.createSession", obj{"identifier": s.Handle, "password": "wrong"}).fails(http.StatusUnauthorized, "AuthenticationRequired")
	c.post("com.atproto.server.createSession", obj{"identifier": "nobody-has-this.test", "password": "x"}).fails(http.StatusUnauthorized, "AuthenticationRequired")
	c.post("com.atproto.server.createSession", obj{"identifier": s.Handle}).fails(http.StatusBadRequest, "InvalidRequest")

	require.Equal(t, s.did, c.as(first.str("accessJwt")).get("com.atproto.server.getSession").ok().str("did"))
	c.as(first.str("refreshJwt")).get("com.atproto.server.getSession").fails(http.StatusBadRequest, "InvalidToken")
	c.as(first.str("accessJwt")).post("com.atproto.server.refreshSession", nil).fails(http.StatusBadRequest, "InvalidToken")
	c.as("x.y.z").get("com.atproto.server.getSession").fails(http.StatusBadRequest, "InvalidToken")
	c.get("com.atproto.server.getSession").fails(http.StatusUnauthorized, "AuthMissing")

	second := c.as(first.str("refreshJwt")).post("com.atproto.server.refreshSession", nil).ok()
	require.NotEqual(t, first.str("refreshJwt"), second.str("refreshJwt"))
	require.Equal(t, "com.atproto.appPass", claims(t, second.str("accessJwt")).str("scope"), "a refreshed session is no more than it was")
	// Somebody who lost the answer asks again: the same successor.
	again := c.as(first.str("refreshJwt")).post("com.atproto.server.refreshSession", nil).ok()
	require.Equal(t, claims(t, second.str("refreshJwt")).str("jti"), claims(t, again.str("refreshJwt")).str("jti"))

	require.Equal(t, http.StatusOK, c.as(second.str("refreshJwt")).post("com.atproto.server.deleteSession", nil).status)
	c.as(second.str("refreshJwt")).post("com.atproto.server.refreshSession", nil).fails(http.StatusBadRequest, "ExpiredToken")
}

func claims(t *testing.T, token string) obj {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var out obj
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

func (s *suite) appPasswords(t *testing.T) {
	full := s.full.in(t)
	made := full.post("com.atproto.server.createAppPassword", obj{"name": "short-lived " + rand.Text()[:6]}).ok()
	require.Regexp(t, `^[a-z2-7]{4}(-[a-z2-7]{4}){3}$`, made.str("password"))
	require.Contains(t, fmt.Sprint(full.get("com.atproto.server.listAppPasswords").ok()["passwords"]), made.str("name"))
	s.app.in(t).post("com.atproto.server.createAppPassword", obj{"name": "more"}).fails(http.StatusBadRequest, "InvalidToken")

	login := obj{"identifier": s.Handle, "password": made.str("password")}
	session := s.anon.in(t).post("com.atproto.server.createSession", login).ok()
	require.Equal(t, http.StatusOK, full.post("com.atproto.server.revokeAppPassword", obj{"name": made.str("name")}).status)
	s.anon.in(t).post("com.atproto.server.createSession", login).fails(http.StatusUnauthorized, "AuthenticationRequired")
	s.anon.in(t).as(session.str("refreshJwt")).post("com.atproto.server.refreshSession", nil).fails(http.StatusBadRequest, "ExpiredToken")
}

func (s *suite) serviceTokens(t *testing.T) {
	c := s.app.in(t)
	for _, aud := range []string{
		"did:web:hold.test", "did:web:localhost%3A8080", "did:web:hold.test#atcr_hold", "did:web:localhost", "did:plc:" + strings.Repeat("a", 24),
	} {
		token := c.get("com.atproto.server.getServiceAuth", "aud", aud, "lxm", "io.atcr.hold.initiateUpload").ok().str("token")
		got := claims(t, token)
		require.Equal(t, aud, got.str("aud"))
		require.Equal(t, s.did, got.str("iss"))
		require.Equal(t, "io.atcr.hold.initiateUpload", got.str("lxm"))
		require.NotEmpty(t, got.str("jti"))
		require.InDelta(t, 60, got["exp"].(float64)-got["iat"].(float64), 2)
		s.verifySignature(t, token)
	}
	for _, aud := range []string{
		"did:web:127.0.0.1%3A8080", "did:web:127.0.0.1:8080", "did:web:hold.test%3A8080", "did:web:hold.test:path", "did:web:localhost:8080",
		"did:plc:abc", "did:key:zabc", "hold.test", "",
	} {
		c.get("com.atproto.server.getServiceAuth", "aud", aud, "lxm", "io.atcr.hold.initiateUpload").fails(http.StatusBadRequest, "InvalidRequest")
	}

	require.Nil(t, claims(t, c.get("com.atproto.server.getServiceAuth", "aud", "did:web:hold.test").ok().str("token"))["lxm"])
	exp := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	c.get("com.atproto.server.getServiceAuth", "aud", "did:web:hold.test", "exp", exp(5*time.Minute)).fails(http.StatusBadRequest, "BadExpiration")
	c.get("com.atproto.server.getServiceAuth", "aud", "did:web:hold.test", "exp", exp(-time.Minute)).fails(http.StatusBadRequest, "BadExpiration")
	c.get("com.atproto.server.getServiceAuth", "aud", "did:web:hold.test", "lxm", "io.atcr.x", "exp", exp(2*time.Hour)).fails(http.StatusBadRequest, "BadExpiration")
	c.get("com.atproto.server.getServiceAuth", "aud", "did:web:hold.test", "lxm", "io.atcr.x", "exp", exp(50*time.Minute)).ok()
	c.get("com.atproto.server.getServiceAuth", "aud", "did:web:hold.test", "lxm", "com.atproto.server.createAppPassword").fails(http.StatusBadRequest, "")
	s.anon.in(t).get("com.atproto.server.getServiceAuth", "aud", "did:web:hold.test").fails(http.StatusUnauthorized, "AuthMissing")
}

// verifySignature checks an ES256K token against the account's DID document.
func (s *suite) verifySignature(t *testing.T, token string) {
	t.Helper()
	at := strings.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	require.NoError(t, err)
	id := s.document(t)
	key, err := id.PublicKey()
	require.NoError(t, err)
	require.NoError(t, key.HashAndVerify([]byte(token[:at]), sig))
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	require.NoError(t, err)
	require.Contains(t, string(header), `"ES256K"`)
}

func (s *suite) records(t *testing.T) {
	c := s.app.in(t)
	made := c.post("com.atproto.repo.createRecord", obj{"repo": s.Handle, "collection": s.collection, "record": s.record("one")}).ok()
	require.Equal(t, "unknown", made.str("validationStatus"))
	rkey := made.str("uri")[strings.LastIndexByte(made.str("uri"), '/')+1:]
	require.Regexp(t, `^[2-7a-z]{13}$`, rkey)
	got := s.getRecord(s.anon.in(t), rkey).ok()
	require.Equal(t, "one", got.str("value", "text"))
	require.Equal(t, made.str("cid"), got.str("cid"))
	require.Equal(t, made.str("uri"), got.str("uri"))

	untyped := c.post("com.atproto.repo.createRecord", obj{"repo": s.did, "collection": s.collection, "rkey": "untyped", "validate": false, "record": obj{"text": "x"}}).ok()
	require.Empty(t, untyped.str("validationStatus"))
	require.Equal(t, s.collection, s.getRecord(c, "untyped").ok().str("value", "$type"))

	c.post("com.atproto.repo.createRecord", obj{"repo": s.did, "collection": s.collection, "rkey": "untyped", "record": s.record("x")}).
		fails(http.StatusInternalServerError, "InternalServerError")
	c.post("com.atproto.repo.createRecord", obj{"repo": s.did, "collection": s.collection, "validate": true, "record": s.record("x")}).
		fails(http.StatusBadRequest, "InvalidRequest")

	s.put(c, "same", s.record("x")).ok()
	head := s.head(c)
	again := s.put(c, "same", s.record("x")).ok()
	require.Equal(t, head, s.head(c), "an identical put makes no commit")
	require.NotEmpty(t, again.str("cid"))
	require.Nil(t, again["commit"])

	remove := obj{"repo": s.did, "collection": s.collection, "rkey": "same"}
	require.NotEmpty(t, c.post("com.atproto.repo.deleteRecord", remove).ok().str("commit", "rev"))
	s.getRecord(c, "same").fails(http.StatusBadRequest, "RecordNotFound")
	require.Empty(t, c.post("com.atproto.repo.deleteRecord", remove).ok(), "deleting what is not there is no error")
}

func (s *suite) recordKeys(t *testing.T) {
	c := s.app.in(t)
	for _, rkey := range []string{strings.Repeat("0123456789abcdef", 4), "hello:latest", "hello_latest", "team~app_v1.0", "a.b-c", "self", strings.Repeat("k", 512)} {
		s.put(c, rkey, s.record(rkey)).ok()
		require.Equal(t, rkey, s.getRecord(c, rkey).ok().str("value", "text"))
	}
	for _, rkey := range []string{"a/b", ".", "..", "", "a b", "a@b", "ü", strings.Repeat("k", 513)} {
		s.put(c, rkey, s.record("x")).fails(http.StatusBadRequest, "InvalidRequest")
	}
}

func (s *suite) values(t *testing.T) {
	c := s.app.in(t)
	s.put(c, "float", obj{"$type": s.collection, "n": 1.5}).fails(http.StatusBadRequest, "InvalidRequest")
	s.put(c, "type", obj{"$type": "test.contract.other"}).fails(http.StatusBadRequest, "InvalidRequest")
	for _, none := range []any{nil, "text", 5, []any{}} {
		s.put(c, "none", none).fails(http.StatusBadRequest, "InvalidRequest")
	}
	s.put(c, "integer", obj{"$type": s.collection, "n": 1<<53 - 1}).ok()
	// The reference fails with 500, which says nothing; neither keeps it.
	require.NotEqual(t, http.StatusOK, s.put(c, "integer", obj{"$type": s.collection, "n": 1 << 53}).status)
	s.put(c, "large", s.record(strings.Repeat("a", 140_000))).ok()
	s.put(c, "larger", s.record(strings.Repeat("a", 1_100_000))).fails(http.StatusRequestEntityTooLarge, "PayloadTooLargeError")

	rich := obj{
		"$type": s.collection, "n": float64(-12), "yes": true, "none": nil, "text": "grüße \u0000 😀", "list": []any{"x", float64(1), []any{}},
		"map": map[string]any{"io.example/key": "v"}, "bytes": map[string]any{"$bytes": "AQID"},
		"link": map[string]any{"$link": "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
	}
	s.put(c, "rich", rich).ok()
	require.Equal(t, map[string]any(rich), s.getRecord(c, "rich").ok()["value"])
}

func (s *suite) swaps(t *testing.T) {
	c := s.app.in(t)
	old := s.put(c, "swap", s.record("one")).ok().str("cid")
	head := s.head(c)
	now := s.put(c, "swap", s.record("two")).ok().str("cid")
	with := func(swap obj) obj {
		in := obj{"repo": s.did, "collection": s.collection, "rkey": "swap", "record": s.record("three")}
		for k, v := range swap {
			in[k] = v
		}
		return in
	}
	c.post("com.atproto.repo.putRecord", with(obj{"swapRecord": old})).fails(http.StatusBadRequest, "InvalidSwap")
	c.post("com.atproto.repo.putRecord", with(obj{"swapRecord": nil})).fails(http.StatusBadRequest, "InvalidSwap")
	c.post("com.atproto.repo.putRecord", with(obj{"swapCommit": head})).fails(http.StatusBadRequest, "InvalidSwap")
	c.post("com.atproto.repo.deleteRecord", with(obj{"swapRecord": old})).fails(http.StatusBadRequest, "InvalidSwap")
	c.post("com.atproto.repo.applyWrites", obj{"repo": s.did, "swapCommit": head, "writes": []any{s.write("create", "swap2", "x")}}).fails(http.StatusBadRequest, "InvalidSwap")
	require.Equal(t, "two", s.getRecord(c, "swap").ok().str("value", "text"))
	c.post("com.atproto.repo.putRecord", with(obj{"swapRecord": now, "swapCommit": s.head(c)})).ok()
	require.Equal(t, "three", s.getRecord(c, "swap").ok().str("value", "text"))
}

func (s *suite) write(op, rkey, text string) obj {
	w := obj{"$type": "com.atproto.repo.applyWrites#" + op, "collection": s.collection, "rkey": rkey}
	if op != "delete" {
		w["value"] = s.record(text)
	}
	return w
}

func (s *suite) applyWrites(t *testing.T) {
	c := s.app.in(t)
	apply := func(writes ...any) answer {
		t.Helper()
		return c.post("com.atproto.repo.applyWrites", obj{"repo": s.did, "writes": writes})
	}
	s.put(c, "there", s.record("old")).ok()
	s.put(c, "goes", s.record("old")).ok()
	out := apply(s.write("create", "fresh", "new"), s.write("update", "there", "new"), s.write("delete", "goes", "")).ok()
	require.NotEmpty(t, out.str("commit", "rev"))
	results := out["results"].([]any)
	require.Len(t, results, 3)
	require.Equal(t, "com.atproto.repo.applyWrites#createResult", obj(results[0].(map[string]any)).str("$type"))
	require.Equal(t, "com.atproto.repo.applyWrites#updateResult", obj(results[1].(map[string]any)).str("$type"))
	require.Equal(t, "com.atproto.repo.applyWrites#deleteResult", obj(results[2].(map[string]any)).str("$type"))
	require.Equal(t, "new", s.getRecord(c, "there").ok().str("value", "text"))
	s.getRecord(c, "goes").fails(http.StatusBadRequest, "RecordNotFound")

	head := s.head(c)
	apply(s.write("create", "half", "x"), s.write("create", "there", "x")).fails(http.StatusInternalServerError, "")
	apply(s.write("create", "half", "x"), s.write("update", "absent", "x")).fails(http.StatusInternalServerError, "")
	apply(s.write("create", "half", "x"), s.write("delete", "absent", "")).fails(http.StatusInternalServerError, "")
	apply(s.write("create", "half", "x"), s.write("create", "a/b", "x")).fails(http.StatusBadRequest, "InvalidRequest")
	s.getRecord(c, "half").fails(http.StatusBadRequest, "RecordNotFound")
	require.Equal(t, head, s.head(c), "nothing of a failed call happens")

	var many []any
	for i := range 201 {
		many = append(many, s.write("create", fmt.Sprintf("many%03d", i), "x"))
	}
	apply(many...).fails(http.StatusBadRequest, "InvalidRequest")
	apply(many[:200]...).ok()
}

func (s *suite) listing(t *testing.T) {
	c := s.anon.in(t)
	list := func(params ...string) answer {
		t.Helper()
		return c.get("com.atproto.repo.listRecords", append([]string{"repo", s.did, "collection", s.collection + ".list"}, params...)...)
	}
	require.Empty(t, list().ok()["records"])
	for i := range 7 {
		s.app.in(t).post("com.atproto.repo.putRecord", obj{"repo": s.did, "collection": s.collection + ".list", "rkey": fmt.Sprintf("k%d", i), "record": obj{"i": i}}).ok()
	}
	var keys []string
	cursor := ""
	for {
		page := list("limit", "3", "cursor", cursor).ok()
		records := page["records"].([]any)
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			uri := obj(r.(map[string]any)).str("uri")
			keys = append(keys, uri[strings.LastIndexByte(uri, '/')+1:])
		}
		if cursor = page.str("cursor"); cursor == "" {
			break
		}
	}
	require.Equal(t, []string{"k6", "k5", "k4", "k3", "k2", "k1", "k0"}, keys)
	first := list("limit", "1", "reverse", "true").ok()
	require.Equal(t, "k0", first.str("cursor"))
	list("limit", "101").fails(http.StatusBadRequest, "InvalidRequest")
	list("limit", "0").fails(http.StatusBadRequest, "InvalidRequest")
	c.get("com.atproto.repo.listRecords", "repo", "nobody-has-this.test", "collection", s.collection).fails(http.StatusBadRequest, "")
}

func (s *suite) refusals(t *testing.T) {
	write := obj{"repo": s.did, "collection": s.collection, "record": s.record("x")}
	s.anon.in(t).post("com.atproto.repo.createRecord", write).fails(http.StatusUnauthorized, "AuthMissing")
	write["repo"] = "did:plc:" + strings.Repeat("a", 24)
	s.app.in(t).post("com.atproto.repo.createRecord", write).fails(http.StatusForbidden, "AccountNotFound")
	a := s.app.in(t).do(http.MethodPost, "/xrpc/com.atproto.repo.createRecord", "application/json", strings.NewReader("{"), "")
	require.Equal(t, http.StatusBadRequest, a.status)
	s.anon.in(t).do(http.MethodPost, "/xrpc/com.atproto.repo.createRecord?"+url.Values{}.Encode(), "", nil, "").fails(http.StatusUnauthorized, "AuthMissing")
}
