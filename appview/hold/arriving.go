package hold

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
)

// arriving counts the bytes of uploads in progress. Those that come through the hold are counted since it started: a part
// that is sent again counts again until its upload ends; one that breaks off is not kept, and counts no more. Those that go
// past it are what the storage said last, see measure.go.
type arriving struct {
	mu      sync.Mutex
	uploads map[string]*arrival
	users   map[syntax.DID]int64
	whole   map[syntax.DID]int       // blobs that come whole, by user
	looked  map[syntax.DID]time.Time // when the storage was last asked
}

type arrival struct {
	did   syntax.DID
	bytes int64
}

func newArriving() *arriving {
	return &arriving{uploads: map[string]*arrival{}, users: map[syntax.DID]int64{}, whole: map[syntax.DID]int{}, looked: map[syntax.DID]time.Time{}}
}

// add counts bytes of an upload, unless its user has no limit (0) or would have more than most.
func (a *arriving) add(id string, did syntax.DID, n, most int64) (fits bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if most > 0 && n > 0 && a.users[did]+n > most {
		return false
	}
	a.addTo(id, did, n)
	return true
}

func (a *arriving) addTo(id string, did syntax.DID, n int64) {
	u := a.uploads[id]
	if u == nil {
		u = &arrival{did: did}
		a.uploads[id] = u
	}
	u.bytes += n
	a.count(did, n)
}

// set is how many bytes an upload has.
func (a *arriving) set(id string, did syntax.DID, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.uploads[id]; u != nil {
		n -= u.bytes
	}
	a.addTo(id, did, n)
}

// of is how many bytes all uploads of a user have.
func (a *arriving) of(did syntax.DID) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.users[did]
}

// largestFirst are the uploads of a user.
func (a *arriving) largestFirst(did syntax.DID) (ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, u := range a.uploads {
		if u.did == did {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(x, y string) int {
		return cmp.Or(cmp.Compare(a.uploads[y].bytes, a.uploads[x].bytes), cmp.Compare(x, y))
	})
	return ids
}

// look says whether it is time to ask the storage about a user, and takes it that the caller does.
func (a *arriving) look(did syntax.DID, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.looked[did]; ok && now.Sub(at) < measureEvery {
		return false
	}
	maps.DeleteFunc(a.looked, func(_ syntax.DID, at time.Time) bool { return now.Sub(at) >= measureEvery })
	a.looked[did] = now
	return true
}

// begin counts one more blob that comes whole, unless its user sends most already.
func (a *arriving) begin(did syntax.DID, most int) (ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.whole[did] >= most {
		return false
	}
	a.whole[did]++
	return true
}

func (a *arriving) end(did syntax.DID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.whole[did]--; a.whole[did] == 0 {
		delete(a.whole, did)
	}
}

// unlook takes back that the storage was asked.
func (a *arriving) unlook(did syntax.DID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.looked, did)
}

func (a *arriving) count(did syntax.DID, n int64) {
	if a.users[did] += n; a.users[did] == 0 {
		delete(a.users, did)
	}
}

// forget counts nothing of an upload any more: its parts are gone.
func (a *arriving) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.uploads[id]; u != nil {
		a.count(u.did, -u.bytes)
		delete(a.uploads, id)
	}
}

// touching notes progress of an upload while the hold itself takes a part, and after it. Its bytes, and those of the user's
// other uploads in progress, may be as many as all that the user may have here: the body ends with QuotaExceeded then.
func (s *Server) touching(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.Clone(r.URL.Query().Get("upload")) // remembered, and not the request that it is a part of
		if !storage.ValidUploadID(id) || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		ctx := context.WithoutCancel(r.Context())
		var did syntax.DID
		if len(s.tiers.ranked) > 0 {
			var err error
			if did, err = s.ledger.Uploader(ctx, id); err != nil && !errors.Is(err, ledger.ErrNotFound) {
				s.answer(func(http.ResponseWriter, *http.Request) error { return err })(w, r)
				return
			}
		}
		b := &arrivingBody{counted: s.counted(r.Body, id, did), ctx: ctx, noted: s.now()}
		r.Body = b
		next.ServeHTTP(w, r)
		b.done()
	})
}

// whole counts a blob that comes whole until its end: it is one more upload of its user, and its bytes are of one.
func (s *Server) whole(body io.ReadCloser, did syntax.DID) (_ io.ReadCloser, end func(), ok bool) {
	if !s.arriving.begin(did, s.cfg.MaxUploads) {
		return nil, nil, false
	}
	id := storage.NewUploadID()
	return s.counted(body, id, did), func() { s.arriving.forget(id); s.arriving.end(did) }, true
}

// counted is a body that ends when its user, if there is one, has too much in progress.
type counted struct {
	io.ReadCloser
	s    *Server
	id   string
	did  syntax.DID
	most int64 // 0: it is not counted
}

func (s *Server) counted(body io.ReadCloser, id string, did syntax.DID) counted {
	c := counted{ReadCloser: body, s: s, id: id, did: did}
	if did != "" {
		c.most = s.space(did)
	}
	return c
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.most > 0 && n > 0 && !c.s.arriving.add(c.id, c.did, int64(n), c.most) {
		c.s.metrics.refusals.Inc()
		return 0, c.s.tooMuchInProgress(c.did, c.most)
	}
	return n, err
}

// arrivingBody counts a body, and notes now and then that it still comes.
type arrivingBody struct {
	counted
	ctx   context.Context
	noted time.Time
	bytes int64
	whole bool
}

const bodyNote = time.Minute

func (b *arrivingBody) Read(p []byte) (int, error) {
	n, err := b.counted.Read(p)
	b.bytes += int64(n)
	b.whole = errors.Is(err, io.EOF)
	if now := b.s.now(); n > 0 && now.Sub(b.noted) >= bodyNote {
		b.noted = now
		b.touch()
	}
	return n, err
}

func (b *arrivingBody) touch() {
	if err := b.s.ledger.TouchUpload(b.ctx, b.id, b.s.now()); err != nil {
		b.s.log.ErrorContext(b.ctx, "noting progress of an upload", "error", err)
	}
}

// done ends the count of a body that is not kept: it broke off, or its upload has ended meanwhile.
func (b *arrivingBody) done() {
	if b.bytes == 0 {
		return
	}
	b.touch()
	if b.most == 0 {
		return
	}
	if !b.whole {
		b.s.arriving.add(b.id, b.did, -b.bytes, 0)
	}
	if _, err := b.s.ledger.Uploader(b.ctx, b.id); errors.Is(err, ledger.ErrNotFound) {
		b.s.arriving.forget(b.id)
	}
}
