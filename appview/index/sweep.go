package index

import (
	"context"
	"fmt"
	"slices"
	"time"

	"atcr.io/operator/appview/store"
)

const (
	bytesUnused  = 90 * 24 * time.Hour // after which bytes go that can be read again
	bytesOrphans = time.Hour           // after which bytes go that no manifest names any more
	sweepBatch   = 200                 // rows of one transaction: pushes do not wait for more
)

// Sweep bounds the manifest bytes in the store: those that no manifest of any DID names go, then those unused for long,
// and while there are more than StoreBytes, those unused for longest. Bytes stay, whatever their size, when a record
// without manifestBlob names them: no PDS has them, so they could not be read again. Bytes of a PDS that is down are
// not among these: which manifests are in use is what decides. Several replicas may sweep.
func (m *Mirror) Sweep(ctx context.Context) error {
	if err := m.noteUsed(ctx); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	}
	// A manifest is written with its bytes in one transaction, so bytes without one are old, or just read.
	if _, err := m.dropBytes(ctx, `SELECT b.digest FROM manifest_bytes b WHERE b.used_at < $1
		AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = b.digest) ORDER BY b.used_at LIMIT $2`,
		m.Now().Add(-bytesOrphans).UnixMicro()); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	}
	const readable = `SELECT b.digest FROM manifest_bytes b WHERE b.used_at < $1
		AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = b.digest AND m.blob_cid = '') ORDER BY b.used_at LIMIT $2`
	if _, err := m.dropBytes(ctx, readable, m.Now().Add(-bytesUnused).UnixMicro()); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	}
	for {
		used, err := readOne(ctx, m.Store, func(q querier) (n int64, err error) {
			return n, q.QueryRowContext(ctx, `SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM manifest_bytes`).Scan(&n)
		})
		if err != nil {
			return fmt.Errorf("sweep manifests: %w", err)
		}
		if used <= m.StoreBytes {
			return nil
		}
		n, err := m.dropBatch(ctx, readable, m.Now().UnixMicro())
		if err != nil {
			return fmt.Errorf("sweep manifests: %w", err)
		}
		if n == 0 {
			m.Log.WarnContext(ctx, "the store holds more manifest bytes than it should, and none of them can be read again", "bytes", used)
			return nil
		}
		m.Log.InfoContext(ctx, "manifest bytes dropped from the store; they are read again from their PDS when needed", "count", n)
	}
}

// noteUsed writes down what was served from memory since the last sweep.
func (m *Mirror) noteUsed(ctx context.Context) error {
	used := m.bytes.takeUsed()
	slices.Sort(used) // the same order in all replicas
	now := m.Now().UnixMicro()
	for batch := range slices.Chunk(used, sweepBatch) {
		err := m.Store.Write(ctx, func(tx store.Tx) error {
			for _, d := range batch {
				if _, err := tx.ExecContext(ctx, `UPDATE manifest_bytes SET used_at = $1 WHERE digest = $2`, now, string(d)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropBytes deletes all the bytes that a query finds which were used before a time.
func (m *Mirror) dropBytes(ctx context.Context, query string, before int64) (all int, err error) {
	for {
		n, err := m.dropBatch(ctx, query, before)
		all += n
		if err != nil || n < sweepBatch {
			return all, err
		}
	}
}

func (m *Mirror) dropBatch(ctx context.Context, query string, before int64) (n int, err error) {
	err = m.Store.Write(ctx, func(tx store.Tx) error {
		n = 0
		list, err := texts(ctx, tx, query, before, sweepBatch)
		if err != nil {
			return err
		}
		for _, d := range list {
			// Unless it was used meanwhile, in another replica.
			res, err := tx.ExecContext(ctx, `DELETE FROM manifest_bytes WHERE digest = $1 AND used_at < $2`, d, before)
			if err != nil {
				return err
			}
			gone, err := res.RowsAffected()
			if err != nil {
				return err
			}
			n += int(gone)
		}
		return nil
	})
	return n, err
}
