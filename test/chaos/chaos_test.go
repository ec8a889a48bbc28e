package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/storage/s3test"
)

const (
	pushersEach   = 2 // of each account
	pullers       = 3
	pushesPerKill = 2.5
)

func TestNoAcknowledgedPushIsLostWhateverIsKilled(t *testing.T) {
	binaries := build(t)
	seed := number(t, "CHAOS_SEED", rand.Uint64()>>32)
	t.Run("hold on a filesystem", func(t *testing.T) {
		w := startWorld(t, binaries, nil)
		chaos(t, w, seed, number(t, "CHAOS_PUSHES", 20), filesUnder(w.holdEnv[names.StorageRootDir]))
	})
	t.Run("hold on S3", func(t *testing.T) {
		srv := s3test.Start(t)
		env := srv.HoldEnv(t)
		chaos(t, startWorld(t, binaries, env), seed, number(t, "CHAOS_PUSHES", 10), func(t *testing.T) []string { return srv.Keys(t, env[names.S3Bucket]) })
	})
}

// number reads a variable.
func number(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.ParseUint(v, 10, 64)
	require.NoError(t, err, name)
	return n
}

func newPusher(w *world, seed uint64, repo *repository, shared []blob) *pusher {
	return &pusher{client: newClient(w, seed, repo.handle), repo: repo, shared: shared, used: map[digest.Digest]bool{}}
}

func chaos(t *testing.T, w *world, seed, pushes uint64, keys stored) {
	t.Logf("seed %d, %d pushes: CHAOS_SEED=%d CHAOS_PUSHES=%d repeats the schedule", seed, pushes, seed, pushes)
	started := time.Now()
	rnd := rand.New(rand.NewPCG(seed, 0))
	var all []*pusher
	var repos []*repository
	for _, handle := range accounts {
		shared := sharedLayers(rnd)
		for n := range pushersEach {
			repo := newRepository(handle, n)
			repos = append(repos, repo)
			all = append(all, newPusher(w, rnd.Uint64(), repo, shared))
		}
	}
	idle := []int{}
	for _, debug := range append(slices.Clone(w.debug), w.holdDbg) {
		n, _, err := goroutines(t.Context(), debug)
		require.NoError(t, err)
		idle = append(idle, n)
	}

	disturb(t, w, rnd, all, repos, pushes)
	t.Log(w.disturbed(time.Since(started)))
	everyOutage(t, w, repos[0], seed)
	require.Empty(t, w.count.violations)

	db, err := sql.Open("pgx", w.dbURL)
	require.NoError(t, err)
	defer db.Close()
	b := &books{w: w, repos: repos}
	b.drain(t, db)
	b.settle(t, rnd.Uint64())
	require.Empty(t, w.count.violations)
	b.compare(t)
	differ := b.holdBooks(t, w.holdURL, b.untold)
	for _, p := range all {
		p.http.CloseIdleConnections()
	}
	for i, debug := range append(slices.Clone(w.debug), w.holdDbg) {
		require.Eventually(t, func() bool {
			n, _, err := goroutines(t.Context(), debug)
			return err == nil && n <= idle[i]+60
		}, 3*time.Minute, 100*time.Millisecond, "goroutines are left at %s", debug)
	}
	uploads, begun := b.rows(t, db, "uploads"), w.count.of("uploads begun")-w.count.of("uploads ended")
	for _, p := range []*process{w.appViews[0], w.appViews[1], w.hold} {
		require.NoError(t, p.stop())
	}
	named, orphans, parts := b.inStorage(t, keys(t))
	garbage := b.collect(t, keys)
	b.ledger(t)
	b.sweepStore(t, db)
	require.NoError(t, w.pds.stop())
	pdsBlobs := b.pdsBlobs(t)
	for _, p := range w.processes() {
		require.NoError(t, p.said())
	}
	manifests := b.count()
	t.Logf("accounts: %d manifests on the PDS; upload rows %d for %d uploads begun and not ended; hold: %d blobs named, %d not, %d parts; "+
		"%d manifests whose layer records waited for the collector, which removed %d blobs, %d links and %d layer records and repaired %d manifests; PDS: %d blobs, %d after its sweep",
		manifests, uploads, begun, named, orphans, parts, differ, garbage.Blobs, garbage.Links, garbage.LayerRecords, garbage.Repaired, pdsBlobs, manifests)
}

// disturb lets everybody push and pull while parts are killed.
func disturb(t *testing.T, w *world, rnd *rand.Rand, all []*pusher, repos []*repository, pushes uint64) {
	t.Helper()
	pushing, pushed := context.WithCancel(t.Context())
	defer pushed()
	pulling, pulled := context.WithCancel(t.Context())
	defer pulled()
	var turn atomic.Int64
	var work, rest errgroup.Group
	abort := func(err error) error {
		if err != nil {
			pushed()
		}
		return err
	}
	s := &schedule{w: w, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 0))}
	rest.Go(func() error {
		err := s.run(pushing)
		pulled()
		return err
	})
	for _, p := range all {
		work.Go(func() error {
			for {
				mine := turn.Add(1) - 1
				if mine >= int64(pushes) {
					return nil
				}
				if err := p.await(pushing, int(float64(mine)/pushesPerKill)); err != nil {
					return abort(err)
				}
				if err := p.step(pushing); err != nil {
					return abort(err)
				}
			}
		})
	}
	for range pullers {
		p := &puller{newClient(w, rnd.Uint64(), ""), repos}
		rest.Go(func() error { return abort(p.run(pulling)) })
	}
	err := work.Wait()
	pushed()
	err = errors.Join(err, rest.Wait())
	for _, v := range w.count.violations {
		t.Error(v)
	}
	require.NoError(t, err)
}

// disturbed sums up what happened.
func (w *world) disturbed(took time.Duration) string {
	c := &w.count
	var kills []string
	for _, p := range w.parts() {
		kills = append(kills, fmt.Sprintf("%s %d", p, c.of("killed "+p.String())))
	}
	return fmt.Sprintf("pushes: %d acknowledged, %d given up, %d deletes; requests: %d answered 503, %d cut off, %d retried; uploads: %d ended, %d resumed; "+
		"pulls: %d whole, %d of nothing, %d cut off; kill -9: %s; in %s",
		c.of("acknowledged"), c.of("given up"), c.of("deleted"), c.of("refused"), c.of("broken"), c.of("retries"), c.of("uploads ended"), c.of("uploads resumed"),
		c.of("pulls"), c.of("pulls of nothing"), c.of("pulls cut off"), strings.Join(kills, ", "), took.Round(time.Second))
}
