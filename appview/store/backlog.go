package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Backlog is what waits in the store.
type Backlog struct {
	Notifications int       // not acknowledged by holds yet
	NextDue       time.Time // of the first of them; now when there is none
	Uploads       int       // in progress
}

// Backlog counts what waits.
func (d *DB) Backlog(ctx context.Context) (Backlog, error) {
	b := Backlog{NextDue: time.Now()}
	var due sql.NullInt64
	err := d.Read(ctx, func(q Querier) error {
		if err := q.QueryRowContext(ctx, `SELECT COUNT(*), MIN(due_at) FROM outbox`).Scan(&b.Notifications, &due); err != nil {
			return err
		}
		return q.QueryRowContext(ctx, `SELECT COUNT(*) FROM uploads`).Scan(&b.Uploads)
	})
	if err != nil {
		return b, fmt.Errorf("counting what waits: %w", err)
	}
	if due.Valid {
		b.NextDue = time.UnixMicro(due.Int64)
	}
	return b, nil
}

// Collectors are the metrics of the connection pools.
func (d *DB) Collectors() []prometheus.Collector {
	all := []prometheus.Collector{collectors.NewDBStatsCollector(d.writer, "writer")}
	if d.reader != d.writer {
		all = append(all, collectors.NewDBStatsCollector(d.reader, "reader"))
	}
	return all
}
