package devnettest

import (
	"bytes"
	"strings"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/coder/websocket"
	cbor "github.com/ipfs/go-ipld-cbor"
	"github.com/stretchr/testify/require"
)

const maxFrame = 8 << 20

func (s *suite) subscribe(t *testing.T, query string) *websocket.Conn {
	t.Helper()
	url := strings.Replace(s.URL, "http", "ws", 1) + "/xrpc/com.atproto.sync.subscribeRepos" + query
	conn, res, err := websocket.Dial(t.Context(), url, nil)
	require.NoError(t, err)
	if res.Body != nil {
		_ = res.Body.Close()
	}
	conn.SetReadLimit(maxFrame)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// frame reads a message: its header and its body.
func frame(t *testing.T, conn *websocket.Conn) (map[string]any, []byte) {
	t.Helper()
	_, raw, err := conn.Read(t.Context())
	require.NoError(t, err)
	for n := 1; n < len(raw); n++ {
		var header map[string]any
		if cbor.DecodeInto(raw[:n], &header) == nil {
			return header, raw[n:]
		}
	}
	t.Fatal("the message has no header")
	return nil, nil
}

// commit reads on to the next #commit of the account.
func (s *suite) commit(t *testing.T, conn *websocket.Conn) *comatproto.SyncSubscribeRepos_Commit {
	t.Helper()
	for {
		header, body := frame(t, conn)
		if header["t"] != "#commit" {
			continue
		}
		var msg comatproto.SyncSubscribeRepos_Commit
		require.NoError(t, msg.UnmarshalCBOR(bytes.NewReader(body)))
		if msg.Repo == s.did {
			return &msg
		}
	}
}

func (s *suite) firehose(t *testing.T) {
	c := s.app.in(t)
	live := s.subscribe(t, "")
	id := s.document(t)
	key, err := id.PublicKey()
	require.NoError(t, err)
	var seq int64
	for _, step := range []struct {
		action string
		do     func() answer
	}{
		{"create", func() answer { return s.put(c, "wire", s.record("one")) }},
		{"update", func() answer { return s.put(c, "wire", s.record("two")) }},
		{"delete", func() answer {
			return c.post("com.atproto.repo.deleteRecord", obj{"repo": s.did, "collection": s.collection, "rkey": "wire"})
		}},
	} {
		rev := step.do().ok().str("commit", "rev")
		msg := s.commit(t, live)
		for seq == 0 && msg.Rev < rev { // the reference tells of a commit a little after it acknowledged it
			msg = s.commit(t, live)
		}
		require.Equal(t, rev, msg.Rev)
		require.Greater(t, msg.Seq, seq)
		seq = msg.Seq
		require.Len(t, msg.Ops, 1)
		require.Equal(t, step.action, msg.Ops[0].Action)
		require.Equal(t, s.collection+"/wire", msg.Ops[0].Path)
		_, err := repo.VerifyCommitMessage(t.Context(), msg)
		require.NoError(t, err, "the commit cannot be undone from its message alone")
		signed, _, err := repo.LoadCommitFromCAR(t.Context(), bytes.NewReader(msg.Blocks))
		require.NoError(t, err)
		require.NoError(t, signed.VerifySignature(key))
	}
	again := s.commit(t, s.subscribe(t, "?cursor=0"))
	require.Equal(t, s.did, again.Repo)

	header, body := frame(t, s.subscribe(t, "?cursor=999999999"))
	require.EqualValues(t, -1, header["op"])
	var failure map[string]any
	require.NoError(t, cbor.DecodeInto(body, &failure))
	require.Equal(t, "FutureCursor", failure["error"])
}
