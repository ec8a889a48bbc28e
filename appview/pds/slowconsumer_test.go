package pds_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	cbor "github.com/ipfs/go-ipld-cbor"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

// forgetful is a repository whose events are dropped by each sweep, but for the latest.
func forgetful(t *testing.T) *pds.Engine {
	t.Helper()
	e, err := pds.Open(t.Context(), pds.Config{Dir: t.TempDir(), EventRetention: time.Nanosecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t), Handle: "alice.test"}))
	return e
}

func seqOf(t *testing.T, body []byte) int64 {
	t.Helper()
	var event struct{ Seq int64 }
	var all map[string]any
	require.NoError(t, cbor.DecodeInto(body, &all))
	switch n := all["seq"].(type) {
	case int:
		event.Seq = int64(n)
	case int64:
		event.Seq = n
	case uint64:
		event.Seq = int64(n)
	default:
		t.Fatalf("seq is a %T", n)
	}
	return event.Seq
}

// com.atproto.sync.subscribeRepos: what was dropped is told by an information frame, and the stream begins with what is
// left.
func TestACursorOlderThanTheEventsIsToldAndGetsWhatIsLeft(t *testing.T) {
	e := forgetful(t)
	var last pds.Commit
	for i := range 5 {
		last = put(t, e, "k", fmt.Sprint(i))
	}
	require.NoError(t, e.Sweep(t.Context()))
	conn := subscribe(t, serve(t, e).URL, "?cursor=1")
	_, raw, err := conn.Read(t.Context())
	require.NoError(t, err)
	kind, body := decodeFrame(t, raw)
	require.Equal(t, "#info", kind)
	var info map[string]any
	require.NoError(t, cbor.DecodeInto(body, &info))
	require.Equal(t, "OutdatedCursor", info["name"])
	_, raw, err = conn.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, string(last.Rev), decodeCommit(t, pds.Event{Frame: raw}).Rev)
}

func TestASubscriptionThatMissedEventsSaysSo(t *testing.T) {
	e := forgetful(t)
	sub, err := e.Subscribe(t.Context(), -1)
	require.NoError(t, err)
	put(t, e, "k", "one")
	put(t, e, "k", "two")
	require.NoError(t, e.Sweep(t.Context()))
	_, err = sub.Next(t.Context())
	require.ErrorIs(t, err, pds.ErrConsumerTooSlow)
}

// A consumer that takes nothing while the events that wait for it are dropped never sees a gap: it is told that it is
// too slow, and cut off.
func TestAConsumerThatIsTooSlowIsToldAndCutOffBeforeAnyGap(t *testing.T) {
	e := forgetful(t)
	conn := subscribe(t, serve(t, e).URL, "")
	text := strings.Repeat("x", 500_000)
	for i := range 80 { // 40 MB, more than the two ends of a connection and the server hold
		put(t, e, fmt.Sprint("k", i), text)
	}
	require.NoError(t, e.Sweep(t.Context()))
	last := int64(0)
	for {
		_, raw, err := conn.Read(t.Context())
		require.NoError(t, err)
		kind, body := decodeFrame(t, raw)
		if kind == "" {
			var out map[string]any
			require.NoError(t, cbor.DecodeInto(body, &out))
			require.Equal(t, "ConsumerTooSlow", out["error"])
			break
		}
		seq := seqOf(t, body)
		require.True(t, last == 0 || seq == last+1, "a gap from %d to %d", last, seq)
		last = seq
	}
	_, _, err := conn.Read(t.Context())
	require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
}
