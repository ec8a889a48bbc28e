package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

func TestAFileHasOneServer(t *testing.T) {
	store.SetLockWait(t, 20*time.Millisecond)
	e := storetest.New(t, storetest.File)
	e.Exclusive = true
	first, err := store.Open(t.Context(), e.Options)
	require.NoError(t, err)
	_, err = store.Open(t.Context(), e.Options)
	require.ErrorIs(t, err, store.ErrLocked)
	require.ErrorContains(t, err, e.Path)
	require.ErrorContains(t, err, "ATCR_DATABASE_URL")

	require.NoError(t, first.Close())
	second, err := store.Open(t.Context(), e.Options)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestAServerWaitsForItsPredecessorToEnd(t *testing.T) {
	store.SetLockWait(t, time.Minute)
	e := storetest.New(t, storetest.File)
	e.Exclusive = true
	first, err := store.Open(t.Context(), e.Options)
	require.NoError(t, err)
	opened := make(chan error, 1)
	go func() {
		second, err := store.Open(t.Context(), e.Options)
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	require.NoError(t, first.Close())
	require.NoError(t, <-opened)
}
