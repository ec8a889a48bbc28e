package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// row is one kind of request. Peers that cannot serve it are left out.
type row struct {
	name string
	as   who
	call func(p *peer, i *image) *call
	// alone leaves out every peer but ours.
	alone bool
	floor bool
}

const accept = "Accept: " + manifestType + "\r\n"

// rows are the requests that every pull consists of.
func rows() []row {
	manifest := func(method string, byDigest bool) func(*peer, *image) *call {
		return func(_ *peer, i *image) *call {
			ref := i.tag
			if byDigest {
				ref = digestOf(i.manifest)
			}
			c := &call{method: method, target: "/v2/" + repository + "/manifests/" + ref, header: accept,
				want: want{status: http.StatusOK, length: int64(len(i.manifest)), digest: digestOf(i.manifest)}}
			if method == http.MethodGet {
				c.want.body = i.manifest
			}
			return c
		}
	}
	blob := func(method string) func(*peer, *image) *call {
		return func(p *peer, i *image) *call {
			c := &call{method: method, target: "/v2/" + repository + "/blobs/" + digestOf(i.layer), want: want{status: http.StatusOK, length: layerSize}}
			if method == http.MethodGet && p.moves {
				c.want.body = i.layer
			} else if method == http.MethodGet {
				c.want = want{status: http.StatusTemporaryRedirect}
			}
			return c
		}
	}
	base := func(*peer, *image) *call {
		return &call{method: http.MethodGet, target: "/v2/", want: want{status: http.StatusOK}}
	}
	tags := func(_ *peer, i *image) *call {
		return &call{method: http.MethodGet, target: "/v2/" + repository + "/tags/list",
			want: want{status: http.StatusOK, body: nil}}
	}
	var out []row
	for _, as := range []who{anonymous, loggedIn} {
		suffix := ""
		if as == loggedIn {
			suffix = ", token"
		}
		out = append(out,
			row{name: "GET /v2/" + suffix, as: as, call: base, floor: as == anonymous},
			row{name: "HEAD manifest by tag" + suffix, as: as, call: manifest(http.MethodHead, false)},
			row{name: "GET manifest by tag" + suffix, as: as, call: manifest(http.MethodGet, false)},
			row{name: "HEAD manifest by digest" + suffix, as: as, call: manifest(http.MethodHead, true)},
			row{name: "GET manifest by digest" + suffix, as: as, call: manifest(http.MethodGet, true), floor: as == anonymous},
		)
	}
	return append(out,
		row{name: "HEAD blob", call: blob(http.MethodHead)},
		row{name: "GET blob of 64 KiB", call: blob(http.MethodGet)},
		row{name: "list of tags", call: tags},
		row{name: "token for an app password", call: func(p *peer, _ *image) *call {
			q := url.Values{"service": {p.tokens.service}, "scope": {"repository:" + repository + ":pull,push"}}
			return &call{method: http.MethodGet, target: "/auth/token?" + q.Encode(), header: basic(owner, appPassword), want: want{status: http.StatusOK}}
		}, alone: true},
	)
}

// requests measures every row.
func (r *run) requests(ctx context.Context) error {
	i := newImage()
	for _, p := range r.peers {
		if p.name == "floor" {
			continue
		}
		if err := p.push(ctx, i); err != nil {
			return err
		}
	}
	if err := r.serveFloor(ctx, i); err != nil {
		return err
	}
	t := r.table("Requests", fmt.Sprintf("server CPU of all of a peer's processes; %d connections; p50 and p99 with one connection", r.Connections),
		"request", "peer", "CPU us/request", "ratio", "requests/s", "ratio", "p50 ms", "p99 ms")
	for _, w := range rows() {
		var peers []*peer
		for _, p := range r.peers {
			ours := p.tokens != nil && !p.private
			switch {
			case ours, p.name == "floor" && w.floor, !w.alone && p.name != "floor" && p.private == (w.as == loggedIn):
				peers = append(peers, p)
			}
		}
		got, err := r.compare(ctx, peers, func(ctx context.Context, p *peer) (func(int, int) *call, error) {
			c := w.call(p, i)
			if !w.alone {
				auth, err := p.authorization(ctx, w.as, repository, "pull")
				if err != nil {
					return nil, err
				}
				c.header += auth
			}
			return func(int, int) *call { return c }, nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		us := got[peers[0]]
		for n, p := range peers {
			g := got[p]
			name, cpu, rate := w.name, "", ""
			if n > 0 {
				name, cpu, rate = "", ratio(g.cpu.median(), us.cpu.median()), ratio(us.rate.median(), g.rate.median())
			}
			t.add(name, p.name, g.cpu.String(), cpu, g.rate.String(), rate, g.p50.String(), g.p99.String())
		}
		r.record(w.name, got)
	}
	return nil
}

// ratio says how many times better ours is.
func ratio(other, ours float64) string {
	if ours == 0 {
		return "-"
	}
	return number(other/ours) + "x"
}
