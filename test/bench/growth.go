package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// growth measures the same request with more and more repositories, and lists of many.
func (r *run) growth(ctx context.Context) error {
	i := newImage()
	for _, p := range r.compared() {
		if err := p.push(ctx, i); err != nil {
			return err
		}
	}
	t := r.table("Growth", "GET of a manifest by tag; once: each request for another repository, nothing in memory",
		"repositories", "first answer s", "the same: CPU us", "p50 ms", "p99 ms", "once: CPU us", "p50 ms", "p99 ms", "AppView MiB")
	have := 0
	for _, want := range r.Growth {
		from := have
		err := r.fs.seedTags(ctx, want-have, func(n int) (string, string) { return numbered(from + n), i.tag }, digest.FromBytes(i.manifest))
		if err != nil {
			return err
		}
		have = want
		if err := r.restart(ctx, r.fs); err != nil { // with empty memory, on what is stored
			return err
		}
		row, err := r.grown(ctx, i, have)
		if err != nil {
			return fmt.Errorf("%d repositories: %w", have, err)
		}
		t.add(row...)
	}
	return r.lists(ctx, i)
}

func numbered(n int) string { return fmt.Sprintf("r%06d", n) }

func (r *run) grown(ctx context.Context, i *image, count int) ([]string, error) {
	p := r.fs.peer
	get := func(name, auth string) *call {
		return &call{method: http.MethodGet, target: "/v2/" + owner + "/" + name + "/manifests/" + i.tag, header: accept + auth,
			want: want{status: http.StatusOK, body: i.manifest, digest: digestOf(i.manifest)}}
	}
	same := get(numbered(count-1), "")
	var err error
	if same.header, err = p.authorization(ctx, anonymous, owner+"/"+numbered(count-1), "pull"); err != nil {
		return nil, err
	}
	c, err := dial(p.host)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	_, err = c.do(same) // reads the new records from the PDS
	first := time.Since(began)
	c.close()
	if err != nil {
		return nil, err
	}
	var sameCPU, onceCPU, sameP50, sameP99, onceP50, onceP99 samples
	for range r.Repetitions {
		got, err := drive(ctx, p, r.Connections, r.Window, func(int, int) *call { return same })
		if err != nil {
			return nil, err
		}
		one, err := drive(ctx, p, 1, r.Window/2, func(int, int) *call { return same })
		if err != nil {
			return nil, err
		}
		sameCPU = append(sameCPU, got.perRequest())
		sameP50, sameP99 = append(sameP50, millis(one.latencies, .5)), append(sameP99, millis(one.latencies, .99))

		calls, err := r.once(ctx, get, count)
		if err != nil {
			return nil, err
		}
		if got, err = drive(ctx, p, 1, time.Minute, func(_, n int) *call {
			if n < len(calls) {
				return calls[n]
			}
			return nil
		}); err != nil {
			return nil, err
		}
		onceCPU = append(onceCPU, got.perRequest())
		onceP50, onceP99 = append(onceP50, millis(got.latencies, .5)), append(onceP99, millis(got.latencies, .99))
	}
	now, _, err := p.servers[0].memory()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%d repositories", count)
	r.note(name+", same, CPU us", "atcr", sameCPU.median())
	r.note(name+", once, CPU us", "atcr", onceCPU.median())
	return []string{fmt.Sprint(count), number(first.Seconds()), sameCPU.String(), sameP50.String(), sameP99.String(),
		onceCPU.String(), onceP50.String(), onceP99.String(), number(mib(now))}, nil
}

// once prepares requests for repositories at random, each at most once as far as there are enough.
func (r *run) once(ctx context.Context, get func(name, auth string) *call, count int) ([]*call, error) {
	const (
		most     = 1_000
		perToken = 8 // scopes: more would make the token a measurement of its own
	)
	order := rand.Perm(count)
	var calls []*call
	for at := 0; at < min(most, max(count, 16)); at += perToken {
		q := url.Values{"service": {r.fs.tokens.service}}
		var names []string
		for n := range perToken {
			names = append(names, numbered(order[(at+n)%count]))
			q.Add("scope", "repository:"+owner+"/"+names[n]+":pull")
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.fs.tokens.realm+"?"+q.Encode(), nil)
		if err != nil {
			return nil, err
		}
		var out struct{ Token string }
		if err := fetch(req, &out); err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		for _, name := range names {
			calls = append(calls, get(name, "Authorization: Bearer "+out.Token+"\r\n"))
		}
	}
	return calls, nil
}

// lists measures the first page of referrers, and pages out of the middle of a long list of tags.
func (r *run) lists(ctx context.Context, i *image) error {
	const many = owner + "/many"
	d := digest.FromBytes(i.manifest)
	tag := func(n int) string { return fmt.Sprintf("t%06d", n) }
	if err := r.fs.seedTags(ctx, r.Tags, func(n int) (string, string) { return "many", tag(n) }, d); err != nil {
		return err
	}
	if r.plain != nil {
		if err := seedDistribution(filepath.Join(r.dir, r.plain.name), many, r.Tags, tag, d); err != nil {
			return err
		}
	}
	if err := r.seedReferrers(ctx, i); err != nil {
		return err
	}
	page := min(100, r.Tags/2)
	t := r.table("Lists", "pages at random places", "request", "peer", "CPU us/request", "ratio", "requests/s", "ratio", "p50 ms", "p99 ms")
	for _, row := range []struct {
		name       string
		repository string
		peers      []*peer
		call       func() *call
	}{
		{fmt.Sprintf("%d of %d tags", page, r.Tags), many, r.compared(), func() *call {
			at := rand.IntN(r.Tags - page)
			var names []string
			for n := range page {
				names = append(names, tag(at+1+n))
			}
			body, _ := json.Marshal(map[string]any{"name": many, "tags": names}) // cannot fail
			return &call{method: http.MethodGet, target: fmt.Sprintf("/v2/%s/tags/list?n=%d&last=%s", many, page, tag(at)),
				want: want{status: http.StatusOK, list: body}}
		}},
		{fmt.Sprintf("referrers of a manifest with %d", r.Referrers), repository, []*peer{r.fs.peer}, func() *call {
			return &call{method: http.MethodGet, target: "/v2/" + repository + "/referrers/" + string(d), want: want{status: http.StatusOK}}
		}},
	} {
		got, err := r.compare(ctx, row.peers, func(ctx context.Context, p *peer) (func(int, int) *call, error) {
			auth, err := p.authorization(ctx, anonymous, row.repository, "pull")
			return func(int, int) *call {
				c := row.call()
				c.header = auth
				return c
			}, err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		us := got[r.fs.peer]
		for n, p := range row.peers {
			g := got[p]
			name, cpu, rate := row.name, "", ""
			if n > 0 {
				name, cpu, rate = "", ratio(g.cpu.median(), us.cpu.median()), ratio(us.rate.median(), g.rate.median())
			}
			t.add(name, p.name, g.cpu.String(), cpu, g.rate.String(), rate, g.p50.String(), g.p99.String())
		}
		r.record(row.name, got)
	}
	return nil
}

// seedReferrers pushes signatures of the image through the AppView.
func (r *run) seedReferrers(ctx context.Context, i *image) error {
	dials := dialer{}
	defer dials.close()
	for n := range r.Referrers {
		extra := fmt.Sprintf(`,"artifactType":"application/vnd.bench.signature","subject":{"mediaType":%q,"digest":%q,"size":%d},"x":%d`,
			manifestType, digestOf(i.manifest), len(i.manifest), n)
		m := manifestFor(i.config, i.layer, extra)
		if err := r.fs.pushManifest(ctx, dials, repository, digestOf(m), m); err != nil {
			return fmt.Errorf("referrer %d: %w", n, err)
		}
	}
	return nil
}
