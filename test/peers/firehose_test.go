package peers_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/coder/websocket"
	cbor "github.com/ipfs/go-ipld-cbor"
	"github.com/stretchr/testify/require"
	cbg "github.com/whyrusleeping/cbor-gen"
)

const eventTimeout = 30 * time.Second

// firehose is a subscription to a server's com.atproto.sync.subscribeRepos.
type firehose struct {
	t    *testing.T
	conn *websocket.Conn
	// unverified takes commits as they come: indigo's verifier orders operations by a relation that is no order, and so
	// cannot undo every commit of several deletes.
	unverified bool
}

// event of a firehose; one of the pointers is set, by kind.
type event struct {
	Kind     string
	Commit   *comatproto.SyncSubscribeRepos_Commit
	Identity *comatproto.SyncSubscribeRepos_Identity
	Account  *comatproto.SyncSubscribeRepos_Account
	Sync     *comatproto.SyncSubscribeRepos_Sync
}

// follow subscribes from the first event that the server still has.
func follow(t *testing.T, server string) *firehose {
	t.Helper()
	address := "ws" + strings.TrimPrefix(server, "http") + "/xrpc/com.atproto.sync.subscribeRepos?cursor=0"
	conn, res, err := websocket.Dial(t.Context(), address, nil)
	require.NoError(t, err)
	if res.Body != nil {
		res.Body.Close()
	}
	conn.SetReadLimit(8 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &firehose{t: t, conn: conn}
}

// next waits for an event. A commit is verified as a relay does: the operations, undone, lead to the tree before.
func (f *firehose) next() event {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), eventTimeout)
	defer cancel()
	_, frame, err := f.conn.Read(ctx)
	require.NoError(f.t, err)
	var header cbg.Deferred
	require.NoError(f.t, header.UnmarshalCBOR(bytes.NewReader(frame)))
	var head map[string]any
	require.NoError(f.t, cbor.DecodeInto(header.Raw, &head))
	require.EqualValues(f.t, 1, head["op"], "an error frame")
	body := bytes.NewReader(frame[len(header.Raw):])
	ev := event{}
	ev.Kind, _ = head["t"].(string)
	switch ev.Kind {
	case "#commit":
		ev.Commit = &comatproto.SyncSubscribeRepos_Commit{}
		require.NoError(f.t, ev.Commit.UnmarshalCBOR(body))
		if !f.unverified {
			_, err := repo.VerifyCommitMessage(f.t.Context(), ev.Commit)
			require.NoError(f.t, err)
		}
	case "#identity":
		ev.Identity = &comatproto.SyncSubscribeRepos_Identity{}
		require.NoError(f.t, ev.Identity.UnmarshalCBOR(body))
	case "#account":
		ev.Account = &comatproto.SyncSubscribeRepos_Account{}
		require.NoError(f.t, ev.Account.UnmarshalCBOR(body))
	case "#sync":
		ev.Sync = &comatproto.SyncSubscribeRepos_Sync{}
		require.NoError(f.t, ev.Sync.UnmarshalCBOR(body))
	default:
		f.t.Fatalf("an event of kind %q", ev.Kind)
	}
	return ev
}

// nextCommit skips events of other kinds and commits of other repositories.
func (f *firehose) nextCommit(did string) *comatproto.SyncSubscribeRepos_Commit {
	f.t.Helper()
	for {
		if ev := f.next(); ev.Commit != nil && ev.Commit.Repo == did {
			return ev.Commit
		}
	}
}

// ops are "create io.atcr.tag/hello_latest" and so on, as the commit has them.
func ops(c *comatproto.SyncSubscribeRepos_Commit) []string {
	var out []string
	for _, op := range c.Ops {
		out = append(out, op.Action+" "+op.Path)
	}
	return out
}
