package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// repository is what one pusher owns: it alone changes its tags and manifests, and everybody pulls them.
type repository struct {
	handle string
	name   string // with the owner
	tags   map[string]*register

	mu        sync.Mutex
	images    map[digest.Digest]*image
	manifests map[digest.Digest]*register
	top       []*image // those that are no child of an index
	layers    []blob   // of images pushed before
}

const tagsEach = 4

func newRepository(handle string, n int) *repository {
	r := &repository{handle: handle, name: fmt.Sprintf("%s/chaos/app%d", handle, n), tags: map[string]*register{},
		images: map[digest.Digest]*image{}, manifests: map[digest.Digest]*register{}}
	for i := range tagsEach {
		r.tags[fmt.Sprintf("v%d", i)] = newRegister()
	}
	return r
}

// know makes an image one that may be seen.
func (r *repository) know(i *image, top bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.images[i.digest]; ok {
		return
	}
	r.images[i.digest], r.manifests[i.digest] = i, newRegister()
	if top {
		r.top = append(r.top, i)
	}
	r.layers = append(r.layers, i.layers...)
}

func (r *repository) image(d digest.Digest) (*image, *register) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.images[d], r.manifests[d]
}

func (r *repository) all() []*image {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*image
	for _, i := range r.images {
		out = append(out, i)
	}
	return out
}

// pusher pushes to its repository, one thing after the other.
type pusher struct {
	*client
	repo   *repository
	shared []blob // layers that all pushers of this account use
	used   map[digest.Digest]bool
}

// errGivenUp is what an impatient client says: nobody knows what came of its push.
var errGivenUp = errors.New("given up")

// limit is how long a client tries. Nothing is measured by it: it ends a test that hangs.
const limit = 10 * time.Minute

// step does the next thing: mostly a push.
func (p *pusher) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	impatient := p.rnd.IntN(6) == 0
	err := p.push(ctx, impatient)
	if err == nil && p.rnd.IntN(5) == 0 {
		err = p.deleteTag(ctx, p.tag())
	}
	if err == nil && p.rnd.IntN(5) == 0 {
		err = p.deleteManifest(ctx)
	}
	if errors.Is(err, errGivenUp) {
		p.w.count.add("given up", 1)
		return nil
	}
	return err
}

// await waits until so many kills were begun, since the machine may be faster than parts start. It pulls meanwhile:
// requests are what the schedule goes by.
func (p *pusher) await(ctx context.Context, kills int) error {
	for p.w.kills.value() < kills {
		tag := p.tag()
		_, err := (&puller{client: p.client}).pull(ctx, p.repo, tag, p.repo.tags[tag])
		if isAway(err) {
			err = p.pause(ctx, 2)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pusher) tag() string { return fmt.Sprintf("v%d", p.rnd.IntN(tagsEach)) }

// push pushes a new image or index, or an older one again, and a tag of it.
func (p *pusher) push(ctx context.Context, impatient bool) error {
	p.repo.mu.Lock()
	known, older := append(p.repo.layers[max(0, len(p.repo.layers)-20):len(p.repo.layers):len(p.repo.layers)], p.shared...), p.repo.top
	p.repo.mu.Unlock()
	var i *image
	switch n := p.rnd.IntN(8); {
	case n == 0 && len(older) > 0:
		i = older[p.rnd.IntN(len(older))]
	case n == 1:
		i = newIndex(p.rnd, known)
	default:
		i = newImage(p.rnd, known)
	}
	p.repo.know(i, true)
	for _, child := range i.children {
		p.repo.know(child, false)
	}
	patience := func(ctx context.Context, fn func() error) error { return p.again(ctx, fn) }
	if impatient {
		patience = func(_ context.Context, fn func() error) error {
			err := fn()
			if isAway(err) {
				return fmt.Errorf("%w: %w", errGivenUp, err)
			}
			return err
		}
	}
	for _, child := range i.children {
		if err := p.pushOne(ctx, child, "", patience); err != nil {
			return err
		}
	}
	if err := p.pushOne(ctx, i, p.tag(), patience); err != nil {
		return err
	}
	p.w.count.add("acknowledged", 1)
	return nil
}

// pushOne pushes an image's blobs and then its manifest, under a tag or by its digest alone.
func (p *pusher) pushOne(ctx context.Context, i *image, tag string, patience func(context.Context, func() error) error) error {
	for _, b := range i.blobs() {
		if err := patience(ctx, func() error { return p.pushBlob(ctx, b) }); err != nil {
			return fmt.Errorf("push %s of %s: %w", b.digest, p.repo.name, err)
		}
	}
	_, there := p.repo.image(i.digest)
	there.begin(i.digest)
	ref := string(i.digest)
	if tag != "" {
		ref = tag
		p.repo.tags[tag].begin(i.digest)
	}
	err := patience(ctx, func() error {
		a, err := p.do(ctx, http.MethodPut, p.repo.name, "/v2/"+p.repo.name+"/manifests/"+ref, i.raw, http.Header{"Content-Type": {i.mediaType}})
		if err == nil && a.status != http.StatusCreated {
			// Also that a blob or child is unknown, whose push was acknowledged.
			err = fmt.Errorf("manifest: %d %s", a.status, a.body)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("push %s:%s: %w", p.repo.name, ref, err)
	}
	there.acknowledged(i.digest)
	if tag != "" {
		p.repo.tags[tag].acknowledged(i.digest)
	}
	return nil
}

// pushBlob pushes a blob unless it is there, in one or more chunks; after a failure it asks how far the upload is, and
// goes on from there.
func (p *pusher) pushBlob(ctx context.Context, b blob) error {
	a, err := p.do(ctx, http.MethodHead, p.repo.name, "/v2/"+p.repo.name+"/blobs/"+string(b.digest), nil, nil)
	if err != nil {
		return err
	}
	if a.status == http.StatusOK {
		p.used[b.digest] = true
		return nil
	}
	if a.status != http.StatusNotFound {
		return fmt.Errorf("look for the blob: %d", a.status)
	}
	if p.used[b.digest] {
		p.w.count.wrong("the blob %s of %s was acknowledged, and is gone", b.digest, p.repo.name)
	}
	p.w.count.add("uploads begun", 1)
	if a, err = p.do(ctx, http.MethodPost, p.repo.name, "/v2/"+p.repo.name+"/blobs/uploads/", nil, nil); err != nil {
		return err
	}
	if a.status != http.StatusAccepted {
		return fmt.Errorf("begin the upload: %d %s", a.status, a.body)
	}
	location := pathOf(a.header.Get("Location"))
	if err := p.fill(ctx, b, &location); err != nil {
		// An account may have 64 uploads open, of which one makes room after ten minutes. Kills would use them up: what
		// this client does not come back to it cancels, once somebody is there to take it.
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		_ = p.again(ctx, func() error {
			_, err := p.do(ctx, http.MethodDelete, p.repo.name, location, nil, nil)
			return err
		})
		return err
	}
	p.w.count.add("uploads ended", 1)
	p.used[b.digest] = true
	return nil
}

// fill sends a blob into an upload, and ends it.
func (p *pusher) fill(ctx context.Context, b blob, at *string) error {
	content, location := b.content(), *at
	unsure := 0 // bytes of the last chunk that failed, which may arrive yet
	for offset := 0; offset < len(content); {
		n := len(content) - offset
		if p.rnd.IntN(2) == 0 {
			n = 1 + p.rnd.IntN(n)
		}
		a, err := p.do(ctx, http.MethodPatch, p.repo.name, location, content[offset:offset+n],
			http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", offset, offset+n-1)}})
		switch {
		case err == nil && a.status == http.StatusAccepted:
			location, offset, unsure = pathOf(a.header.Get("Location")), offset+n, 0
			*at = location
			continue
		case isAway(err):
			unsure = n
		case err != nil:
			return err
		case a.status != http.StatusRequestedRangeNotSatisfiable || unsure == 0:
			return fmt.Errorf("chunk %d-%d: %d %s", offset, offset+n-1, a.status, a.body)
		}
		if offset, err = p.resume(ctx, location, offset, unsure); err != nil {
			return err
		}
	}
	a, err := p.do(ctx, http.MethodPut, p.repo.name, location+"?digest="+string(b.digest), nil, nil)
	if err != nil {
		return err
	}
	if a.status != http.StatusCreated {
		return fmt.Errorf("end of the upload: %d %s", a.status, a.body)
	}
	return nil
}

// resume asks how far an upload is after a chunk of n bytes that failed; what was acknowledged before must be there.
func (p *pusher) resume(ctx context.Context, location string, offset, n int) (int, error) {
	a, err := p.do(ctx, http.MethodGet, p.repo.name, location, nil, nil)
	if err != nil {
		return 0, err
	}
	if a.status != http.StatusNoContent {
		return 0, fmt.Errorf("state of the upload: %d %s", a.status, a.body)
	}
	_, last, _ := strings.Cut(a.header.Get("Range"), "-")
	end, err := strconv.Atoi(last)
	if err != nil {
		return 0, fmt.Errorf("state of the upload: Range %q", a.header.Get("Range"))
	}
	if end > 0 || offset > 0 {
		end++
	}
	if end != offset && end != offset+n {
		p.w.count.wrong("an upload of %s stands at %d; %d were acknowledged, and %d more sent", p.repo.name, end, offset, n)
	}
	p.w.count.add("uploads resumed", 1)
	return end, nil
}

func (p *pusher) deleteTag(ctx context.Context, tag string) error {
	r := p.repo.tags[tag]
	if r.must(absent) {
		return nil
	}
	return p.delete(ctx, tag, r, func() {})
}

// deleteManifest deletes one that is there, and with it its tags.
func (p *pusher) deleteManifest(ctx context.Context) error {
	p.repo.mu.Lock()
	var there []*image
	for _, i := range p.repo.top {
		if p.repo.manifests[i.digest].must(i.digest) {
			there = append(there, i)
		}
	}
	p.repo.mu.Unlock()
	if len(there) == 0 {
		return nil
	}
	i := there[p.rnd.IntN(len(there))]
	_, r := p.repo.image(i.digest)
	var tags []*register
	for _, tag := range p.repo.tags {
		if tag.may(i.digest) {
			tag.begin(absent)
			tags = append(tags, tag)
		}
	}
	return p.delete(ctx, string(i.digest), r, func() {
		for _, tag := range tags {
			tag.lost(i.digest)
		}
	})
}

func (p *pusher) delete(ctx context.Context, ref string, r *register, then func()) error {
	certain := !r.may(absent)
	r.begin(absent)
	first, told := true, false
	err := p.again(ctx, func() error {
		a, err := p.do(ctx, http.MethodDelete, p.repo.name, "/v2/"+p.repo.name+"/manifests/"+ref, nil, nil)
		if err != nil {
			first = false
			return err
		}
		switch a.status {
		case http.StatusAccepted:
			told = true
			return nil
		case http.StatusNotFound:
			if first && certain {
				p.w.count.wrong("%s:%s was acknowledged, and is gone before it was deleted", p.repo.name, ref)
			}
			return nil
		}
		return fmt.Errorf("delete %s:%s: %d %s", p.repo.name, ref, a.status, a.body)
	})
	if err != nil {
		return err
	}
	if told {
		r.acknowledged(absent)
	} else {
		r.found(absent)
	}
	then()
	p.w.count.add("deleted", 1)
	return nil
}

// sharedLayers are those that all pushers of an account use.
func sharedLayers(rnd *rand.Rand) (out []blob) {
	for range 4 {
		out = append(out, newBlob(rnd, layerSize(rnd)))
	}
	return out
}
