package pds_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/coder/websocket"
	cbor "github.com/ipfs/go-ipld-cbor"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

// serve mounts the handler; whoever says "alice" in Authorization may write to her repository.
func serve(t *testing.T, e *pds.Engine) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(pds.NewHandler(e, pds.HandlerConfig{ServiceDID: "did:web:pds.test", Authorize: func(r *http.Request) (syntax.DID, error) {
		if r.Header.Get("Authorization") != "alice" {
			return "", &pds.XRPCError{Status: http.StatusForbidden, Name: "NotCrew", Message: "only the captain writes"}
		}
		return alice, nil
	}}))
	t.Cleanup(srv.Close)
	return srv
}

func call(t *testing.T, req *http.Request) (int, map[string]any) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	out := map[string]any{}
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	_ = json.Unmarshal(raw, &out) // some answers are no JSON
	return res.StatusCode, out
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func TestTheHandlerAnswersAsTheAuthorizerSays(t *testing.T) {
	srv := serve(t, newRepo(t))
	body := fmt.Sprintf(`{"repo":%q,"collection":%q,"rkey":"a","record":{"text":"x"}}`, alice, notes)
	req := request(t, http.MethodPost, srv.URL+"/xrpc/com.atproto.repo.putRecord", body)
	status, out := call(t, req)
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "NotCrew", out["error"])
	req = request(t, http.MethodPost, srv.URL+"/xrpc/com.atproto.repo.putRecord", body)
	req.Header.Set("Authorization", "alice")
	status, out = call(t, req)
	require.Equal(t, http.StatusOK, status, out)
}

func TestUnknownMethodsAndVerbsAreTold(t *testing.T) {
	srv := serve(t, newRepo(t))
	status, out := call(t, request(t, http.MethodGet, srv.URL+"/xrpc/com.atproto.repo.nope", ""))
	require.Equal(t, http.StatusNotImplemented, status)
	require.Equal(t, "MethodNotImplemented", out["error"])
	status, out = call(t, request(t, http.MethodGet, srv.URL+"/xrpc/com.atproto.repo.putRecord", ""))
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "InvalidRequest", out["error"])
	status, _ = call(t, request(t, http.MethodOptions, srv.URL+"/xrpc/com.atproto.repo.putRecord", ""))
	require.Equal(t, http.StatusNoContent, status)
}

func TestBlobsAreServedInRanges(t *testing.T) {
	e := newRepo(t)
	blob, err := e.PutBlob(t.Context(), alice, "text/html", strings.NewReader("0123456789"), 10)
	require.NoError(t, err)
	refer(t, e, "a", blob)
	srv := serve(t, e)
	req := request(t, http.MethodGet, srv.URL+"/xrpc/com.atproto.sync.getBlob?did="+string(alice)+"&cid="+blob.Ref.String(), "")
	req.Header.Set("Range", "bytes=3-5")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusPartialContent, res.StatusCode)
	require.Equal(t, "345", string(raw))
	require.Contains(t, res.Header.Get("Content-Security-Policy"), "sandbox")
}

func TestARecordProofHoldsForPresentAndAbsentRecords(t *testing.T) {
	e := newRepo(t)
	for i := range 300 {
		put(t, e, fmt.Sprint("k", i), fmt.Sprint(i))
	}
	for _, rkey := range []string{"k7", "k299", "absent"} {
		var out bytes.Buffer
		require.NoError(t, e.WriteRecordProofCAR(t.Context(), alice, notes, syntax.RecordKey(rkey), &out))
		_, r, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(out.Bytes()))
		require.NoError(t, err)
		c, err := r.MST.Get([]byte(string(notes) + "/" + rkey))
		require.NoError(t, err, "the proof misses a node")
		require.Equal(t, rkey != "absent", c != nil)
		require.Less(t, len(carBlocks(t, out.Bytes())), 20, "a proof is a path, not the tree")
	}
}

func TestADiffSinceARevisionCompletesAnOlderCopy(t *testing.T) {
	e := newRepo(t)
	var since pds.Commit
	for i := range 100 {
		since = put(t, e, fmt.Sprint("k", i), fmt.Sprint(i))
	}
	var before, diff, now bytes.Buffer
	require.NoError(t, e.WriteRepoCAR(t.Context(), alice, "", &before))
	put(t, e, "k5", "changed")
	put(t, e, "new", "new")
	remove(t, e, "k6")
	require.NoError(t, e.WriteRepoCAR(t.Context(), alice, string(since.Rev), &diff))
	require.NoError(t, e.WriteRepoCAR(t.Context(), alice, "", &now))
	have := carBlocks(t, before.Bytes())
	news := carBlocks(t, diff.Bytes())
	for c := range carBlocks(t, now.Bytes()) {
		require.True(t, have[c] || news[c], "a block is neither in the copy nor in the diff")
	}
	require.Less(t, len(news), len(have)/4)
}

func TestTheFirehoseReplaysFromACursorAndGoesOnLive(t *testing.T) {
	e := newRepo(t)
	put(t, e, "a", "one")
	srv := serve(t, e)
	conn := subscribe(t, srv.URL, "?cursor=0")
	var kinds []string
	for range 5 {
		_, raw, err := conn.Read(t.Context())
		require.NoError(t, err)
		kind, _ := decodeFrame(t, raw)
		kinds = append(kinds, kind)
	}
	require.Equal(t, []string{"#identity", "#account", "#commit", "#sync", "#commit"}, kinds)
	last := put(t, e, "a", "two")
	_, raw, err := conn.Read(t.Context())
	require.NoError(t, err)
	msg := decodeCommit(t, pds.Event{Frame: raw})
	require.Equal(t, string(last.Rev), msg.Rev)
	require.EqualValues(t, 6, msg.Seq)
	require.Equal(t, "update", msg.Ops[0].Action)
	_, err = repo.VerifyCommitMessage(t.Context(), msg)
	require.NoError(t, err)
}

// subscribe to the firehose; query is "" or "?cursor=N".
func subscribe(t *testing.T, url, query string) *websocket.Conn {
	t.Helper()
	conn, res, err := websocket.Dial(t.Context(), strings.Replace(url, "http", "ws", 1)+"/xrpc/com.atproto.sync.subscribeRepos"+query, nil)
	require.NoError(t, err)
	if res.Body != nil {
		_ = res.Body.Close()
	}
	conn.SetReadLimit(8 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func TestACursorOfTheFutureIsAnErrorFrame(t *testing.T) {
	srv := serve(t, newRepo(t))
	conn := subscribe(t, srv.URL, "?cursor=1000")
	_, raw, err := conn.Read(t.Context())
	require.NoError(t, err)
	_, body := decodeFrame(t, raw)
	var out map[string]any
	require.NoError(t, cbor.DecodeInto(body, &out))
	require.Equal(t, "FutureCursor", out["error"])
	_, _, err = conn.Read(t.Context())
	require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
}

func TestSubscribersEndWhenTheEngineCloses(t *testing.T) {
	e, err := pds.Open(t.Context(), pds.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	srv := serve(t, e)
	conn := subscribe(t, srv.URL, "")
	require.NoError(t, e.Close())
	_, _, err = conn.Read(t.Context())
	require.Error(t, err)
}
