package index

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"

	"atcr.io/operator/appview/store"
)

const (
	bytesUnused  = 90 * 24 * time.Hour // after which bytes go that can be read again
	bytesOrphans = time.Hour           // after which bytes go that no manifest names any more
	sweepBatch   = 200                 // rows of one transaction: pushes do not wait for more
)

// Sweep drops what was mirrored of DIDs that nobody asked for, and of others when all together have too many rows. It
// bounds the manifest bytes in the store: those that no manifest of any DID names go, then those unused for long,
// and while there are more than StoreBytes, those unused for longest. Bytes that a record without manifestBlob names may be
// found nowhere else: they stay while they take no more than an eighth of StoreBytes together. Whoever writes such records
// for bytes of his own takes the room of others like him, and of nobody else. Bytes of a PDS that is down are not among
// these: which manifests are in use is what decides. Several replicas may sweep.
func (m *Mirror) Sweep(ctx context.Context) error {
	if err := m.noteReads(ctx); err != nil {
		return fmt.Errorf("sweep mirrors: %w", err)
	}
	if err := m.dropUnread(ctx); err != nil {
		return fmt.Errorf("sweep mirrors: %w", err)
	}
	if err := m.dropBeyondRows(ctx); err != nil {
		return fmt.Errorf("sweep mirrors: %w", err)
	}
	if err := m.noteUsed(ctx); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	}
	const (
		orphan = `NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = b.digest)`
		pinned = `EXISTS (SELECT 1 FROM manifests m WHERE m.digest = b.digest AND m.blob_cid = '')`
	)
	// A manifest is written with its bytes in one transaction, so bytes without one are old, or just read.
	if err := m.dropUnused(ctx, orphan, bytesOrphans); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	}
	if err := m.dropUnused(ctx, "NOT "+pinned, bytesUnused); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	}
	if n, err := m.dropBeyond(ctx, pinned, pinned, m.StoreBytes/8); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	} else if n > 0 {
		m.Log.WarnContext(ctx, "manifest bytes dropped from the store that no PDS may have: there are many of them", "count", n)
	}
	if n, err := m.dropBeyond(ctx, "1 = 1", "NOT "+pinned, m.StoreBytes); err != nil {
		return fmt.Errorf("sweep manifests: %w", err)
	} else if n > 0 {
		m.Log.InfoContext(ctx, "manifest bytes dropped from the store; they are read again from their PDS when needed", "count", n)
	}
	return nil
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

// dropUnused deletes the bytes of a kind that were not used for a time.
func (m *Mirror) dropUnused(ctx context.Context, kind string, unused time.Duration) error {
	for {
		n, err := m.dropBatch(ctx, kind, m.Now().Add(-unused), math.MaxInt64)
		if err != nil || n < sweepBatch {
			return err
		}
	}
}

// dropBeyond deletes bytes of the kind which, those unused for longest first, while those of the kind counted are more
// than limit.
func (m *Mirror) dropBeyond(ctx context.Context, counted, which string, limit int64) (all int, err error) {
	for {
		used, err := readOne(ctx, m.Store, func(q querier) (n int64, err error) {
			return n, q.QueryRowContext(ctx, `SELECT CAST(coalesce(sum(b.size), 0) AS BIGINT) FROM manifest_bytes b WHERE `+counted).Scan(&n)
		})
		if err != nil || used <= limit {
			return all, err
		}
		n, err := m.dropBatch(ctx, which, m.Now(), used-limit)
		if all += n; err != nil || n == 0 { // n is 0 when the rest has been used meanwhile
			return all, err
		}
	}
}

// dropBatch deletes bytes of a kind which were not used since a time, those unused for longest first, until excess bytes
// are gone or a transaction has enough.
func (m *Mirror) dropBatch(ctx context.Context, kind string, before time.Time, excess int64) (n int, err error) {
	err = m.Store.Write(ctx, func(tx store.Tx) error {
		n = 0
		list, err := oldest(tx.QueryContext(ctx, `SELECT b.digest, b.size FROM manifest_bytes b WHERE b.used_at < $1 AND `+kind+`
			ORDER BY b.used_at, b.digest LIMIT $2`, before.UnixMicro(), sweepBatch))
		if err != nil {
			return err
		}
		for left := excess; len(list) > 0 && left > 0; list = list[1:] {
			// Unless it was used meanwhile, in another replica.
			res, err := tx.ExecContext(ctx, `DELETE FROM manifest_bytes WHERE digest = $1 AND used_at < $2`, list[0].digest, before.UnixMicro())
			if err != nil {
				return err
			}
			gone, err := res.RowsAffected()
			if err != nil {
				return err
			}
			n += int(gone)
			left -= list[0].size
		}
		return nil
	})
	return n, err
}

type storedSize struct {
	digest string
	size   int64
}

func oldest(rows *sql.Rows, err error) (list []storedSize, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s storedSize
		if err := rows.Scan(&s.digest, &s.size); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}
