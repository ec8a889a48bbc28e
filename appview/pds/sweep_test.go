package pds_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

// panicky is a log with a bug that shows once: whatever the sweep tells of first.
type panicky struct {
	slog.Handler
	once  *atomic.Bool
	again chan string
}

func (panicky) Enabled(context.Context, slog.Level) bool { return true }

func (p panicky) Handle(_ context.Context, r slog.Record) error {
	if p.once.CompareAndSwap(false, true) {
		panic("index out of range")
	}
	select {
	case p.again <- r.Message:
	default:
	}
	return nil
}

func TestASweepThatPanicsIsStartedAgainAndTheEngineGoesOn(t *testing.T) {
	dir := t.TempDir()
	e := openEngine(t, dir)
	require.NoError(t, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t), Handle: "alice.test"}))
	require.NoError(t, e.Close())
	db, err := sql.Open("sqlite", filepath.Join(dir, "pds.sqlite"))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `ALTER TABLE blob RENAME TO gone`) // so that each sweep fails, and says so
	require.NoError(t, err)
	require.NoError(t, db.Close())

	said := make(chan string, 10)
	e, err = pds.Open(t.Context(), pds.Config{Dir: dir, Logger: slog.New(panicky{slog.DiscardHandler, &atomic.Bool{}, said})})
	require.NoError(t, err)
	require.Contains(t, <-said, "panicked", "the panic is told")
	require.Contains(t, <-said, "sweep of blobs", "and the sweep runs again")
	put(t, e, "k", "the engine goes on")
	require.NoError(t, e.Close())
}
