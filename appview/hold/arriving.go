package hold

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
)

// arriving counts the bytes of uploads in progress that came through the hold since it started. A part that is sent again
// counts again until its upload ends; one that breaks off is not kept, and counts no more.
type arriving struct {
	mu      sync.Mutex
	uploads map[string]*arrival
	users   map[syntax.DID]int64
}

type arrival struct {
	did   syntax.DID
	bytes int64
}

func newArriving() *arriving {
	return &arriving{uploads: map[string]*arrival{}, users: map[syntax.DID]int64{}}
}

// add counts bytes of an upload, unless its user has no limit (0) or would have more than most.
func (a *arriving) add(id string, did syntax.DID, n, most int64) (fits bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if most > 0 && n > 0 && a.users[did]+n > most {
		return false
	}
	u := a.uploads[id]
	if u == nil {
		u = &arrival{did: did}
		a.uploads[id] = u
	}
	u.bytes += n
	a.count(did, n)
	return true
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
		id := r.URL.Query().Get("upload")
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
		b := &arrivingBody{ReadCloser: r.Body, s: s, ctx: ctx, id: id, did: did, noted: s.now()}
		if did != "" {
			b.most = s.space(did)
		}
		r.Body = b
		next.ServeHTTP(w, r)
		b.done()
	})
}

// arrivingBody counts a body, and notes now and then that it still comes.
type arrivingBody struct {
	io.ReadCloser
	s     *Server
	ctx   context.Context
	id    string
	did   syntax.DID
	most  int64 // 0: it is not counted
	noted time.Time
	bytes int64
	whole bool
}

const bodyNote = time.Minute

func (b *arrivingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.most > 0 && n > 0 && !b.s.arriving.add(b.id, b.did, int64(n), b.most) {
		b.s.metrics.refusals.Inc()
		return 0, b.s.tooMuchInProgress(b.did, b.most)
	}
	b.bytes += int64(n)
	b.whole = err == io.EOF
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
