package hold_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/coder/websocket"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
)

func TestTheRepositoryIsSignedByTheKeyOfTheDIDDocument(t *testing.T) {
	w := newWorld(t, public)
	w.push(alice, []byte("x"))
	a := w.query(nobody, "com.atproto.sync.getRepo", url.Values{"did": {w.hold.DID().String()}})
	require.Equal(t, http.StatusOK, a.status)
	commit, r, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(a.body))
	require.NoError(t, err)
	require.Equal(t, w.hold.DID().String(), commit.DID)

	doc, err := diddoc.Parse(w.send(http.MethodGet, w.url+diddoc.WellKnown, "", nil).body)
	require.NoError(t, err)
	_, multibase, _ := diddoc.SigningKey(doc)
	key, err := atcrypto.ParsePublicMultibase(multibase)
	require.NoError(t, err)
	require.NoError(t, commit.VerifySignature(key))
	_, _, err = r.GetRecordBytes(t.Context(), "io.atcr.hold.captain", "self")
	require.NoError(t, err)
}

// A DID that is not escaped in a query arrives with a bare port, as the seed writes it.
func TestTheHoldKnowsItselfByABarePort(t *testing.T) {
	w := newWorld(t, public)
	for _, target := range []string{"sync.getLatestCommit?did=", "repo.describeRepo?repo="} {
		a := w.send(http.MethodGet, w.url+"/xrpc/com.atproto."+target+w.hold.DID().String(), "", nil)
		require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	}
}

func TestCrewChangesAreEventsOfTheFirehose(t *testing.T) {
	w := newWorld(t, nil)
	target := strings.Replace(w.url, "http://", "ws://", 1) + "/xrpc/com.atproto.sync.subscribeRepos"
	conn, resp, err := websocket.Dial(t.Context(), target, nil)
	require.NoError(t, err)
	if resp.Body != nil {
		defer resp.Body.Close()
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(1 << 20)
	w.addCrew(bob, "blob:read")
	for {
		kind, frame, err := conn.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, websocket.MessageBinary, kind)
		if bytes.Contains(frame, []byte("io.atcr.hold.crew")) && bytes.Contains(frame, []byte(w.did(bob))) {
			return
		}
	}
}

func TestABlobThatOneDeletesWhileAnotherPushesItStaysWithTheOther(t *testing.T) {
	w := newWorld(t, public)
	w.addCrew(bob, "blob:write")
	d := digest.FromString("contended")
	for range 20 {
		w.push(alice, []byte("contended"))
		id := w.begin(bob)
		p := w.part(bob, id, 1, []byte("contended"))
		aliceToken, bobToken := w.token(alice), w.token(bob)
		var wg sync.WaitGroup
		var completed reply
		wg.Go(func() {
			w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.deleteBlob", aliceToken, object{"digest": d})
		})
		wg.Go(func() {
			completed = w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.completeUpload", bobToken,
				object{"uploadId": id, "digest": d, "parts": []object{p}})
		})
		wg.Wait()
		require.Equal(t, http.StatusOK, completed.status)
		require.Equal(t, "contended", string(w.pull(nobody, bob, d, nil).body))
		require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.deleteBlob", object{"digest": d}).status)
		require.Equal(t, http.StatusNotFound, w.getBlob(nobody, bob, d).status)
	}
}
