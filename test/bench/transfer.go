package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Transfer is one size of blobs to push and pull.
type Transfer struct {
	MiB   int
	Count int // of blobs in one repetition
}

// moved is what one peer did with one size.
type moved struct {
	rate samples            // MiB/s
	cpu  map[string]samples // ms/MiB, by process
}

// transfers pushes and pulls blobs one after another, each a new one, over the peers in turn.
func (r *run) transfers(ctx context.Context) error {
	t := r.table("Blobs", "one client, one blob after another, a new one each time; CPU by process; every byte is compared",
		"operation", "peer", "MiB/s", "ratio", "CPU ms/MiB", "by process")
	for _, size := range r.Transfers {
		blob := random(size.MiB << 20)
		push, pull := map[*peer]*moved{}, map[*peer]*moved{}
		for _, p := range r.movers {
			push[p], pull[p] = &moved{cpu: map[string]samples{}}, &moved{cpu: map[string]samples{}}
		}
		for n := range r.Repetitions + 1 { // the first is not counted: connections, service tokens, folders are new
			for i := range r.movers {
				p := r.movers[i]
				if n%2 == 1 {
					p = r.movers[len(r.movers)-1-i]
				}
				if err := r.transfer(ctx, p, blob, size, push[p], pull[p], n > 0); err != nil {
					return err
				}
			}
		}
		for _, op := range []struct {
			name string
			got  map[*peer]*moved
		}{{"push", push}, {"pull", pull}} {
			for i, p := range r.movers {
				name := ""
				if i == 0 {
					name = fmt.Sprintf("%s %d MiB", op.name, size.MiB)
				}
				g := op.got[p]
				var total float64
				var parts []string
				for _, s := range p.servers {
					total += g.cpu[s.name].median()
					parts = append(parts, s.name+" "+number(g.cpu[s.name].median()))
				}
				t.add(name, p.name, g.rate.String(), ratio(g.rate.median(), op.got[r.rival(p)].rate.median()), number(total), strings.Join(parts, ", "))
				r.note(fmt.Sprintf("%s %d MiB", op.name, size.MiB), p.name, g.rate.median())
			}
		}
	}
	return r.nothingPassed(ctx)
}

// rival is whom a peer's rate is compared with: distribution on the same kind of storage.
func (r *run) rival(p *peer) *peer {
	want := "distribution"
	if strings.HasSuffix(p.name, "-s3") {
		want = "distribution-s3"
	}
	for _, other := range r.movers {
		if other.name == want {
			return other
		}
	}
	return p
}

func (r *run) transfer(ctx context.Context, p *peer, blob []byte, size Transfer, push, pull *moved, count bool) error {
	d := dialer{}
	defer d.close()
	timed := func(m *moved, do func() error) error {
		before, err := p.cpu()
		if err != nil {
			return err
		}
		began := time.Now()
		if err := do(); err != nil {
			return err
		}
		took := time.Since(began)
		after, err := p.cpu()
		if err != nil || !count {
			return err
		}
		m.rate = append(m.rate, float64(size.MiB)/took.Seconds())
		for i, used := range after.since(before) {
			name := p.servers[i].name
			m.cpu[name] = append(m.cpu[name], float64(used)/float64(time.Millisecond)/float64(size.MiB))
		}
		return nil
	}
	for range size.Count {
		fresh(blob)
		digest := digestOf(blob) // by the client, outside the clock
		if err := timed(push, func() error { return p.pushBlob(ctx, d, repository, blob, digest) }); err != nil {
			return fmt.Errorf("push %d MiB: %w", size.MiB, err)
		}
		if err := timed(pull, func() error { return p.pullBlob(ctx, d, loggedIn, repository, blob, digest) }); err != nil {
			return fmt.Errorf("pull %d MiB: %w", size.MiB, err)
		}
	}
	return nil
}

// nothingPassed pulls a blob and reads from the AppView's own metrics that none of its bytes passed through it.
func (r *run) nothingPassed(ctx context.Context) error {
	blob := random(4 << 20)
	digest := digestOf(blob)
	d := dialer{}
	defer d.close()
	for _, n := range r.networks() {
		if err := n.pushBlob(ctx, d, repository, blob, digest); err != nil {
			return err
		}
		before, err := n.metric(ctx, "atcr_sent_bytes_total")
		if err != nil {
			return err
		}
		if err := n.pullBlob(ctx, d, loggedIn, repository, blob, digest); err != nil {
			return err
		}
		after, err := n.metric(ctx, "atcr_sent_bytes_total")
		if err != nil {
			return err
		}
		r.say("%s: the AppView sent %.0f bytes of a body while a blob of %d bytes was pulled", n.name, after-before, len(blob))
		if after-before >= float64(len(blob)) {
			return fmt.Errorf("%s: the blob passed through the AppView", n.name)
		}
	}
	return nil
}

// metric is the value of a metric without labels.
func (n *network) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.debug+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), " "); ok && key == name {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", n.name, name)
}
