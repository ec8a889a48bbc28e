package backup

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"atcr.io/operator/appview/config/names"
)

// Schedule makes a backup in every interval. When there is none of this interval, as after a stop, it makes one soon.
type Schedule struct {
	Dir
	Database string // path of the SQLite file
	Interval time.Duration
	Log      *slog.Logger

	mu     sync.Mutex
	last   time.Time
	failed string
}

// retry is how soon a failed backup is tried again, at most.
const retry = 10 * time.Minute

// State is when the newest backup was made, zero for never, and why the newest try failed, empty if it did not.
func (s *Schedule) State() (last time.Time, failed string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.failed
}

// Run makes backups until ctx ends.
func (s *Schedule) Run(ctx context.Context) {
	s.look(ctx)
	for {
		last, failed := s.State()
		wait := time.Until(last.Add(s.Interval))
		if failed != "" {
			wait = min(retry, s.Interval)
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			s.once(ctx)
		}
	}
}

// look finds what an earlier server made.
func (s *Schedule) look(ctx context.Context) {
	all, err := s.List()
	if err != nil {
		s.Log.WarnContext(ctx, "looking for backups", "error", err)
	}
	if len(all) > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last = all[0].Time
	}
}

func (s *Schedule) once(ctx context.Context) {
	f, err := s.Make(ctx, s.Database, time.Now())
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.last, s.failed = f.Time, ""
		s.Log.InfoContext(ctx, "backup made", "file", f.Path, "bytes", f.Size)
	case errors.Is(err, ErrNoSpace):
		s.failed = names.BackupNoSpace
		s.Log.ErrorContext(ctx, "no backup was made", "error", err)
	default:
		s.failed = names.BackupFailed
		s.Log.ErrorContext(ctx, "no backup was made", "error", err)
	}
}

var (
	lastDesc   = prometheus.NewDesc("atcr_backup_last_success_timestamp_seconds", "When the newest backup of the SQLite database was made, in Unix time; 0: never.", nil, nil)
	failedDesc = prometheus.NewDesc("atcr_backup_failed", "Whether the newest try to make a backup failed, by reason: NoSpace or Failed.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Schedule) Describe(ch chan<- *prometheus.Desc) { ch <- lastDesc; ch <- failedDesc }

// Collect implements prometheus.Collector.
func (s *Schedule) Collect(ch chan<- prometheus.Metric) {
	last, failed := s.State()
	at := 0.0
	if !last.IsZero() {
		at = float64(last.Unix())
	}
	ch <- prometheus.MustNewConstMetric(lastDesc, prometheus.GaugeValue, at)
	for _, reason := range []string{names.BackupNoSpace, names.BackupFailed} {
		is := 0.0
		if reason == failed {
			is = 1
		}
		ch <- prometheus.MustNewConstMetric(failedDesc, prometheus.GaugeValue, is, reason)
	}
}
