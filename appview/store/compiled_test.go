package store_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
)

func TestAQueryThatIsKeptCompiledSeesWhatWasWrittenMeanwhile(t *testing.T) {
	for name, path := range map[string]string{"file": filepath.Join(t.TempDir(), "x.db"), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			db, err := store.Open(t.Context(), store.Options{Path: path})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			count := func() (n int) {
				err := db.ReadOne(t.Context(), func(q store.Querier) error {
					return q.QueryRowContext(t.Context(), `SELECT count(*) FROM mirrors WHERE did = $1`, "did:plc:a").Scan(&n)
				})
				require.NoError(t, err)
				return n
			}
			require.Zero(t, count())
			require.NoError(t, db.Write(t.Context(), func(tx store.Tx) error {
				_, err := tx.ExecContext(t.Context(), `INSERT INTO mirrors (did, rev, commit_cid, synced_at) VALUES ($1, 'r', 'c', 0)`, "did:plc:a")
				return err
			}))
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 50 {
						if n := count(); n != 1 {
							t.Error(n)
						}
					}
				})
			}
			wg.Wait()
			err = db.ReadOne(t.Context(), func(q store.Querier) error {
				return q.QueryRowContext(t.Context(), `SELECT 1 FROM nowhere`).Scan(new(int))
			})
			require.ErrorContains(t, err, "nowhere")
		})
	}
}
