package session_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/session"
	"atcr.io/operator/appview/devnet"
)

type brokenStore struct{ session.Store }

func (brokenStore) Lease(context.Context, string, time.Duration) (func(), error) {
	panic("index out of range")
}

func TestABugInALoginIsAnErrorForThoseWhoWaitForIt(t *testing.T) {
	w := start(t, devnet.Config{})
	who, err := w.dir.ResolveDID(t.Context(), w.alice.DID)
	require.NoError(t, err)
	m := session.NewManager(session.Config{Store: brokenStore{w.db}, Key: w.key, Directory: w.dir, Client: w.client, Logger: slog.New(slog.DiscardHandler)})
	_, err = m.Check(t.Context(), who, w.alice.AppPassword, "192.0.2.0/24")
	require.ErrorContains(t, err, "panic")
}
