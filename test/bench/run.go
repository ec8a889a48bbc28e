package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// run is a run of the benchmark.
type run struct {
	Options
	report *Report
	dir    string
	ours   binaries
	fs, s3 *network
	plain  *peer   // distribution without tokens; nil without rivals
	peers  []*peer // of the request rows, ours first
	movers []*peer // of the blob rows, ours first
	stops  []func()
}

// Sections of a run, in their order: footprints before anything was asked, growth late, since it fills the stores.
var Sections = []string{"idle", "requests", "blobs", "connections", "start", "growth", "soak"}

// Run starts the servers, measures and stops them. It prints each table as it is done. An answer that is not what it
// must be ends it.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	r := &run{Options: o, report: &Report{Values: map[string]map[string]float64{}}}
	if r.dir, err = os.MkdirTemp(o.Dir, "atcr-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	defer func() {
		for i := len(r.stops) - 1; i >= 0; i-- {
			r.stops[i]()
		}
	}()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	measure := map[string]func(context.Context) error{"idle": r.idle, "requests": r.requests, "blobs": r.transfers,
		"connections": r.connections, "start": r.starts, "growth": r.growth, "soak": r.soak}
	for _, section := range Sections {
		if len(o.Only) > 0 && !o.Only[section] {
			continue
		}
		began, tables := time.Now(), len(r.report.Tables)
		if err := measure[section](ctx); err != nil {
			return r.report, fmt.Errorf("%s: %w", section, err)
		}
		for _, t := range r.report.Tables[tables:] {
			fmt.Fprint(r.Out, t)
		}
		r.say("(%s: %s)", section, time.Since(began).Round(time.Second))
	}
	return r.report, nil
}

// start builds and starts every server.
func (r *run) start(ctx context.Context) (err error) {
	if r.ours, err = buildOurs(ctx, r.dir); err != nil {
		return err
	}
	if len(r.Only) == 1 && r.Only["soak"] {
		return nil // it has a network of its own
	}
	if r.fs, err = r.startNetwork(ctx, "atcr", r.ours, onFilesystem(r.dir), nil); err != nil {
		return err
	}
	var rivals []*peer
	if !r.Ours {
		if r.plain, err = r.startDistribution(ctx, "distribution", "", nil); err != nil {
			return err
		}
		guarded, err := r.startDistribution(ctx, "distribution+token", "", r.fs)
		if err != nil {
			return err
		}
		rivals = []*peer{r.plain, guarded}
	}
	floor, err := r.startFloor(ctx)
	if err != nil {
		return err
	}
	others, err := r.startOthers(ctx)
	if err != nil {
		return err
	}
	if earlier, ok := r.ours.earlier(); ok {
		base, err := r.startNetwork(ctx, "atcr-base", earlier, onFilesystem(filepath.Join(r.dir, "base")), nil)
		if err != nil {
			return err
		}
		others = append(others, base.peer)
	}
	r.peers = append(append(append([]*peer{r.fs.peer}, rivals...), others...), floor)
	r.movers = append(r.compared(), others...)
	if !r.S3 {
		return nil
	}
	hold, server, config, err := r.startS3(ctx)
	if err != nil {
		return err
	}
	if r.s3, err = r.startNetwork(ctx, "atcr-s3", r.ours, hold, nil); err != nil {
		return err
	}
	onS3 := []*peer{r.s3.peer}
	if !r.Ours {
		rival, err := r.startDistribution(ctx, "distribution-s3", config, nil)
		if err != nil {
			return err
		}
		onS3 = append(onS3, rival)
	}
	for _, p := range onS3 {
		p.servers = append(p.servers, server)
	}
	r.movers = append(r.movers, onS3...)
	return nil
}

// compared are ours and a distribution that asks for no tokens, if there is one.
func (r *run) compared() []*peer {
	if r.plain == nil {
		return []*peer{r.fs.peer}
	}
	return []*peer{r.fs.peer, r.plain}
}

func (r *run) networks() []*network {
	if r.s3 == nil {
		return []*network{r.fs}
	}
	return []*network{r.fs, r.s3}
}

// launch starts a program that is stopped at the end of the run.
func (r *run) launch(ctx context.Context, p program) (*process, error) {
	s, err := launch(ctx, p, r.dir)
	if err == nil {
		r.stops = append(r.stops, s.stop)
	}
	return s, err
}
