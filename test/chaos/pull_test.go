package chaos

import (
	"context"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
)

// puller pulls what others push, anonymously, and judges everything that it sees.
type puller struct {
	*client
	repos []*repository
}

// run pulls random tags until the context ends, at the pace of the pushers.
func (p *puller) run(ctx context.Context) error {
	for p.w.ended.reach(ctx, p.w.ended.value()+1) == nil {
		repo := p.repos[p.rnd.IntN(len(p.repos))]
		tag := fmt.Sprintf("v%d", p.rnd.IntN(tagsEach))
		_, err := p.pull(ctx, repo, tag, repo.tags[tag])
		switch {
		case ctx.Err() != nil:
			return nil
		case isAway(err):
			p.w.count.add("pulls cut off", 1)
		case err != nil:
			return err
		}
	}
	return nil
}

// pull reads what ref names and everything below it, and compares. It returns the digest, absent when there is nothing.
func (p *puller) pull(ctx context.Context, repo *repository, ref string, r *register) (digest.Digest, error) {
	reading := r.read()
	a, err := p.do(ctx, http.MethodGet, repo.name, "/v2/"+repo.name+"/manifests/"+ref, nil, http.Header{"Accept": {"*/*"}})
	if err != nil {
		return absent, err
	}
	var got digest.Digest
	switch a.status {
	case http.StatusNotFound:
		got = absent
	case http.StatusOK:
		got = digest.FromBytes(a.body)
	default:
		return absent, fmt.Errorf("pull %s:%s: %d %s", repo.name, ref, a.status, a.body)
	}
	if !reading.allows(got) {
		p.w.count.wrong("%s:%s is %q, and may only be one of %q", repo.name, ref, got, r.values())
		return got, nil
	}
	if got == absent {
		p.w.count.add("pulls of nothing", 1)
		return got, nil
	}
	if named := a.header.Get("Docker-Content-Digest"); named != string(got) {
		p.w.count.wrong("%s:%s is %s, and its header says %s", repo.name, ref, got, named)
	}
	i, there := repo.image(got) // it is known, being allowed
	err = p.whole(ctx, repo, i, there)
	if err == nil {
		p.w.count.add("pulls", 1)
	}
	return got, err
}

// whole pulls what is below a manifest that was seen: all of it must be there, acknowledged or not.
func (p *puller) whole(ctx context.Context, repo *repository, i *image, there *register) error {
	reading := there.read()
	missing := func(what string) {
		if !reading.allows(absent) { // deleted meanwhile
			p.w.count.wrong("%s@%s can be seen, and %s of it is missing", repo.name, i.digest, what)
		}
	}
	for _, b := range i.blobs() {
		body, found, err := p.blob(ctx, repo.name, string(b.digest))
		if err != nil {
			return err
		}
		if !found {
			missing(string(b.digest))
		} else if len(body) != b.size || digest.FromBytes(body) != b.digest {
			p.w.count.wrong("%s: the bytes of %s are others", repo.name, b.digest)
		}
	}
	for _, child := range i.children {
		a, err := p.do(ctx, http.MethodGet, repo.name, "/v2/"+repo.name+"/manifests/"+string(child.digest), nil, http.Header{"Accept": {"*/*"}})
		if err != nil {
			return err
		}
		switch {
		case a.status == http.StatusNotFound:
			missing(string(child.digest))
		case a.status != http.StatusOK || digest.FromBytes(a.body) != child.digest:
			p.w.count.wrong("%s@%s: %d", repo.name, child.digest, a.status)
		default:
			if err := p.whole(ctx, repo, child, there); err != nil {
				return err
			}
		}
	}
	return nil
}
