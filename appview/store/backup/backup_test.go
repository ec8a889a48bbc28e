package backup_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/backup"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// server is an open database with one session, as a server has it.
func server(t *testing.T) (*store.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ui.db")
	db, err := store.Open(t.Context(), store.Options{Path: path, Exclusive: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() }) // some tests close it before
	save(t, db, "first")
	return db, path
}

func save(t *testing.T, db *store.DB, credential string) {
	t.Helper()
	require.NoError(t, db.SaveSession(t.Context(), store.PDSSession{Credential: credential, DID: "did:plc:a", PDS: "https://pds", Sealed: []byte{1},
		ExpiresAt: noon, EndsAt: noon, Version: 1, UpdatedAt: noon}))
}

func has(t *testing.T, path string, want ...string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: path, Exclusive: true})
	require.NoError(t, err)
	defer db.Close()
	var got []string
	require.NoError(t, db.Read(t.Context(), func(q store.Querier) error {
		rows, err := q.QueryContext(t.Context(), `SELECT credential FROM pds_sessions ORDER BY credential`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c string
			if err := rows.Scan(&c); err != nil {
				return err
			}
			got = append(got, c)
		}
		return rows.Err()
	}))
	require.Equal(t, want, got)
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range all {
		if e.Name() != ".lock" {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestABackupOfARunningServerIsRestoredAndTheOldDatabaseKept(t *testing.T) {
	db, path := server(t)
	dir := backup.Dir{Path: filepath.Join(t.TempDir(), "backups"), Keep: 2}
	f, err := dir.Make(t.Context(), path, noon)
	require.NoError(t, err)
	require.Equal(t, "backup-20261126T120000Z.db", filepath.Base(f.Path))
	require.Positive(t, f.Size)
	save(t, db, "second") // after the backup

	_, err = backup.Restore(t.Context(), f.Path, path, noon)
	require.ErrorIs(t, err, store.ErrLocked, "the server is running")
	require.NoError(t, db.Close())
	kept, err := backup.Restore(t.Context(), f.Path, path, noon)
	require.NoError(t, err)
	has(t, path, "first")
	has(t, kept, "first", "second")
	for _, file := range []string{f.Path, path} {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm(), "it holds sessions")
	}
	require.Equal(t, []string{filepath.Base(f.Path)}, entries(t, dir.Path))
	// And into a place where there is nothing.
	empty := filepath.Join(t.TempDir(), "ui.db")
	kept, err = backup.Restore(t.Context(), f.Path, empty, noon)
	require.NoError(t, err)
	require.Empty(t, kept)
	has(t, empty, "first")
}

func TestTheNewestBackupsAreKeptAndForeignFilesToo(t *testing.T) {
	_, path := server(t)
	dir := backup.Dir{Path: t.TempDir(), Keep: 2}
	require.NoError(t, os.WriteFile(filepath.Join(dir.Path, "backup-of-mine.db"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir.Path, ".backup-part"), []byte("half of one, of a server that was killed"), 0o600))
	for day := range 4 {
		_, err := dir.Make(t.Context(), path, noon.AddDate(0, 0, day))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"backup-20261128T120000Z.db", "backup-20261129T120000Z.db", "backup-of-mine.db"}, entries(t, dir.Path))
	all, err := dir.List()
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, noon.AddDate(0, 0, 3), all[0].Time)
	_, err = dir.Make(t.Context(), path, noon.AddDate(0, 0, 3))
	require.ErrorContains(t, err, "already")
}

func TestABackupThatFailsLeavesNothingAndTheOldOnesStay(t *testing.T) {
	_, path := server(t)
	dir := backup.Dir{Path: t.TempDir(), Keep: 1}
	_, err := dir.Make(t.Context(), path, noon)
	require.NoError(t, err)
	before := entries(t, dir.Path)

	full := dir
	full.Free = func(string) (int64, error) { return 1 << 20, nil }
	_, err = full.Make(t.Context(), path, noon.Add(time.Hour))
	require.ErrorIs(t, err, backup.ErrNoSpace)
	require.ErrorContains(t, err, "keep fewer")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dir.Make(ended, path, noon.Add(time.Hour))
	require.Error(t, err)
	damaged := filepath.Join(t.TempDir(), "ui.db")
	require.NoError(t, os.WriteFile(damaged, []byte(strings.Repeat("no database ", 1000)), 0o600))
	_, err = dir.Make(t.Context(), damaged, noon.Add(time.Hour))
	require.Error(t, err)
	_, err = dir.Make(t.Context(), filepath.Join(t.TempDir(), "none.db"), noon.Add(time.Hour))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, before, entries(t, dir.Path))
}

func TestWhatMustNotBeRestoredIsRefused(t *testing.T) {
	db, path := server(t)
	dir := backup.Dir{Path: t.TempDir(), Keep: 9}
	good, err := dir.Make(t.Context(), path, noon)
	require.NoError(t, err)
	require.NoError(t, db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
		return err
	}))
	newer := filepath.Join(t.TempDir(), "newer.db")
	require.NoError(t, store.Copy(t.Context(), path, newer))
	require.NoError(t, db.Close())

	b, err := os.ReadFile(good.Path)
	require.NoError(t, err)
	cut := filepath.Join(t.TempDir(), "cut.db")
	require.NoError(t, os.WriteFile(cut, b[:len(b)/2], 0o600))
	scribbled := filepath.Join(t.TempDir(), "scribbled.db")
	for i := 4096; i < 4196; i++ { // the head of the second page
		b[i] ^= 0xff
	}
	require.NoError(t, os.WriteFile(scribbled, b, 0o600))
	other := filepath.Join(t.TempDir(), "other.db")
	require.NoError(t, os.WriteFile(other, nil, 0o600))

	target := filepath.Join(t.TempDir(), "ui.db")
	require.NoError(t, os.WriteFile(target, []byte("what is there"), 0o600))
	for _, bad := range []string{cut, scribbled, other, newer, filepath.Join(t.TempDir(), "none.db")} {
		_, err := backup.Restore(t.Context(), bad, target, noon)
		require.Error(t, err, bad)
		if bad == newer {
			require.ErrorIs(t, err, store.ErrNewerSchema)
		}
		left, err := os.ReadFile(target)
		require.NoError(t, err)
		require.Equal(t, "what is there", string(left), bad)
	}
}

func gather(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetGauge().GetValue()
		}
	}
	return out
}

func TestTheScheduleMakesWhatIsDueAndSaysHowItWent(t *testing.T) {
	_, path := server(t)
	var free int64
	s := &backup.Schedule{Dir: backup.Dir{Path: t.TempDir(), Keep: 3, Free: func(string) (int64, error) { return free, nil }},
		Database: path, Interval: time.Hour, Log: slog.New(slog.DiscardHandler)}
	run := func(s *backup.Schedule, until func(last time.Time, failed string) bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		require.Eventually(t, func() bool { return until(s.State()) }, time.Minute, time.Millisecond)
		cancel()
		<-done
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	run(s, func(last time.Time, failed string) bool { return failed == names.BackupNoSpace && last.IsZero() })
	require.Equal(t, map[string]float64{"atcr_backup_last_success_timestamp_seconds": 0, "atcr_backup_failed NoSpace": 1, "atcr_backup_failed Failed": 0},
		gather(t, registry))

	// There is space when the next server starts, and one that starts within the interval after that makes none.
	free = 1 << 40
	s = &backup.Schedule{Dir: s.Dir, Database: path, Interval: time.Hour, Log: s.Log}
	registry = prometheus.NewRegistry()
	registry.MustRegister(s)
	run(s, func(last time.Time, failed string) bool { return failed == "" && !last.IsZero() })
	all, err := s.List()
	require.NoError(t, err)
	require.EqualValues(t, all[0].Time.Unix(), gather(t, registry)["atcr_backup_last_success_timestamp_seconds"])
	next := &backup.Schedule{Dir: s.Dir, Database: path, Interval: time.Hour, Log: s.Log}
	run(next, func(last time.Time, _ string) bool { return last.Equal(all[0].Time) })
	again, err := s.List()
	require.NoError(t, err)
	require.Equal(t, all, again)
}
