package store_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

func TestOnlyWithSQLiteDoesAWriteNotWaitForTheDiskWhenAPowerCutMayTakeItBack(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		if e.URL != "" {
			e.URL += "&synchronous_commit=on" // which the cluster of the tests does without
		}
		db := e.Open(t)
		query, waits, soon := `PRAGMA synchronous`, "2", "1"
		if db.Shared() {
			query, waits, soon = `SHOW synchronous_commit`, "on", "on"
		}
		level := func(write func(func(store.Tx) error) error) (got string) {
			require.NoError(t, write(func(tx store.Tx) error { return tx.QueryRowContext(t.Context(), query).Scan(&got) }))
			return got
		}
		durable := func(fn func(store.Tx) error) error { return db.Write(t.Context(), fn) }
		relaxed := func(fn func(store.Tx) error) error { return db.WriteSoon(t.Context(), fn) }
		insert := func(id string, result error) func(store.Tx) error {
			return func(tx store.Tx) error {
				_, err := tx.ExecContext(t.Context(), `INSERT INTO mirrors (did, rev, commit_cid, synced_at) VALUES ($1, 'r', 'c', 0)`, id)
				return errors.Join(err, result)
			}
		}
		failed := errors.New("failed")
		require.Equal(t, waits, level(durable))
		require.NoError(t, relaxed(insert("did:plc:kept", nil)))
		require.ErrorIs(t, relaxed(insert("did:plc:undone", failed)), failed)
		require.Equal(t, soon, level(relaxed))
		require.Equal(t, waits, level(durable))

		var n int
		require.NoError(t, db.ReadOne(t.Context(), func(q store.Querier) error {
			return q.QueryRowContext(t.Context(), `SELECT count(*) FROM mirrors`).Scan(&n)
		}))
		require.Equal(t, 1, n)
	})
}
