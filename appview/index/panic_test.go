package index

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

// broken is a directory with a bug.
type broken struct{}

func (broken) ResolveDID(context.Context, syntax.DID) (*atproto.Identity, error) {
	panic("index out of range")
}

// Reads that several requests share run in goroutines of their own, where a panic would end the server.
func TestABugInASharedReadIsAnErrorForThoseWhoWaitForIt(t *testing.T) {
	m := New(Config{PDS: atproto.NewPDS(broken{}, http.DefaultClient, nil), Store: storetest.New(t, storetest.Memory).Open(t),
		Log: slog.New(slog.DiscardHandler), TTL: time.Second, CacheBytes: 1 << 20, StoreBytes: 1 << 20, Now: time.Now})
	_, err := m.Bytes(t.Context(), &Manifest{DID: fuzzDID, Digest: digest.FromString("x"), BlobCID: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"})
	require.ErrorContains(t, err, "panic")
	require.ErrorContains(t, m.Fresh(t.Context(), fuzzDID, time.Second), "panic")

	require.NoError(t, m.Store.Write(t.Context(), func(q store.Tx) error {
		deletion := &outboxItem{id: "1", did: fuzzDID, hold: "did:web:hold.example.com", record: "x",
			notification: holdclient.Notification{UserDID: fuzzDID, ManifestDigest: string(digest.FromString("x")), Operation: "delete"}}
		return deletion.prepare(t.Context(), q, time.Now().Add(-time.Hour))
	}))
	ctx, stop := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	m.Log = slog.New(watching{slog.DiscardHandler, "panic", told})
	ended := make(chan struct{})
	go func() { defer close(ended); m.Deliver(ctx, nil) }()
	<-told
	stop()
	<-ended
}

// watching is a log that tells when a message is written.
type watching struct {
	slog.Handler
	message string
	told    chan struct{}
}

func (watching) Enabled(context.Context, slog.Level) bool { return true }

func (w watching) Handle(_ context.Context, r slog.Record) error {
	if r.Message == w.message {
		select {
		case w.told <- struct{}{}:
		default:
		}
	}
	return nil
}
