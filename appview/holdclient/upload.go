package holdclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"golang.org/x/net/http/httpguts"
)

// MaxPartSize is the most bytes of a part, whatever a hold prefers: parts that are not streamed are held in memory.
const MaxPartSize = 64 << 20

const (
	defaultPartSize = 8 << 20
	foreignMinPart  = 5 << 20 // S3's smallest part but the last
	crewTTL         = time.Hour
	wholeTTL        = 5 * time.Minute
	partIdle        = 3 * time.Minute // how long a hold may take no byte of a part, or not answer after the last
)

// Upload is an upload that a hold has open.
type Upload struct {
	ID        string `json:"id"`
	PartSize  int64  `json:"partSize"`          // preferred bytes of a part
	MinPart   int64  `json:"minPart,omitempty"` // smallest part but the last; 0: any
	Streaming bool   `json:"streaming,omitempty"`
	Verifies  bool   `json:"verifies,omitempty"` // completion fails unless the bytes hash to the digest: an operator's hold says so
}

// Part is a part that a hold has acknowledged.
type Part struct {
	Number int    `json:"partNumber"`
	ETag   string `json:"etag"`
}

// EnsureCrew asks the hold to take user into its crew, at most once an hour: a hold that lets everybody in does so
// only on request, and the first push would fail otherwise. A refusal is not an error here: the upload itself shows it.
func (c *Client) EnsureCrew(ctx context.Context, h *Hold, user syntax.DID) error {
	key := [2]syntax.DID{user, h.DID}
	c.mu.Lock()
	until, ok := c.crews[key]
	c.mu.Unlock()
	if ok && c.now().Before(until) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := c.call(ctx, h, user, "io.atcr.hold.requestCrew", struct{}{}, nil)
	var refused *Error
	if err != nil && (!errors.As(err, &refused) || refused.Kind == Unavailable || refused.Kind == RateLimited) {
		return err
	}
	if err == nil { // a refusal may be lifted by the captain at any time: ask again at the next push
		c.mu.Lock()
		if len(c.crews) > maxHolds {
			clear(c.crews)
		}
		c.crews[key] = c.now().Add(crewTTL)
		c.mu.Unlock()
	}
	return nil
}

// Initiate opens an upload. The digest may be a placeholder: holds check the one of [Client.Complete].
func (c *Client) Initiate(ctx context.Context, h *Hold, user syntax.DID, d digest.Digest) (*Upload, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out struct {
		UploadID  string `json:"uploadId"`
		PartSize  int64  `json:"partSize"`
		Streaming bool   `json:"streaming"`
		Verifies  bool   `json:"verifies"`
		Whole     bool   `json:"wholeBlobs"`
		FirstPart target `json:"firstPart"`
	}
	const method = "io.atcr.hold.initiateUpload"
	if err := c.call(ctx, h, user, method, map[string]string{"digest": string(d)}, &out); err != nil {
		if kind, ok := KindOf(err); ok && kind == Refused { // no crew any more: the next push asks again
			c.mu.Lock()
			delete(c.crews, [2]syntax.DID{user, h.DID})
			c.mu.Unlock()
		}
		return nil, err
	}
	if out.UploadID == "" || len(out.UploadID) > 2048 {
		return nil, &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Err: errors.New("no usable uploadId in the answer")}
	}
	u := &Upload{ID: out.UploadID, PartSize: min(out.PartSize, MaxPartSize), Streaming: out.Streaming, Verifies: out.Verifies && c.Operated(h.DID)}
	if out.Whole && u.Verifies {
		c.whole.Add([2]syntax.DID{user, h.DID}, c.now().Add(wholeTTL))
	}
	if u.PartSize <= 0 {
		u.PartSize = defaultPartSize
		if !u.Streaming {
			u.MinPart = foreignMinPart
		}
	}
	if out.FirstPart.URL != "" {
		c.first.Add(uploadKey{h.DID, u.ID}, firstPart{out.FirstPart, c.now().Add(firstPartTTL)})
	}
	return u, nil
}

const methodPartURL = "io.atcr.hold.getPartUploadUrl"

// target is where a part is sent, by PUT.
type target struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

// firstPart is what a hold told of the first part when it opened the upload.
type firstPart struct {
	target
	until time.Time
}

type uploadKey struct {
	hold syntax.DID
	id   string
}

// firstPartTTL is how long the place of a first part is used without asking again: S3 signatures may live for minutes.
const firstPartTTL = 2 * time.Minute

// partURL asks where a part is to be sent, unless the hold has told.
func (c *Client) partURL(ctx context.Context, h *Hold, user syntax.DID, uploadID string, number int) (to target, err error) {
	key := uploadKey{h.DID, uploadID}
	if told, ok := c.first.Get(key); ok && number == 1 && c.now().Before(told.until) {
		c.first.Remove(key) // once: when it fails, the hold is asked
		return told.target, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.call(ctx, h, user, methodPartURL, map[string]any{"uploadId": uploadID, "partNumber": number}, &to)
	return to, err
}

// PutPart sends one part. size is -1 when it is not known, which only streaming uploads allow. The body is read once.
func (c *Client) PutPart(ctx context.Context, h *Hold, user syntax.DID, uploadID string, number int, body io.Reader, size int64) (Part, error) {
	const method = methodPartURL
	to, err := c.partURL(ctx, h, user, uploadID, number)
	if err != nil {
		return Part{}, err
	}
	u, host, client, err := h.dialled(to.URL)
	if err != nil {
		return Part{}, &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), nil)
	if err != nil {
		return Part{}, &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Err: stripURL(err)}
	}
	if host != "" {
		req.Host = host
	}
	if err := setHeaders(req.Header, to.Headers); err != nil {
		return Part{}, &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Err: err}
	}
	const call = "part upload"
	part := Part{Number: number}
	err = c.send(client(c), h, call, req, body, size, c.partIdle, func(resp *http.Response, ended bool) error {
		if !ended {
			return &Error{Kind: Unavailable, Hold: h.DID, Call: call, Status: resp.StatusCode,
				Err: errors.New("the hold answered before it had the whole part")}
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		if part.ETag = resp.Header.Get("ETag"); part.ETag == "" {
			return &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: errors.New("no ETag in the answer")}
		}
		return nil
	})
	if err != nil {
		return Part{}, err
	}
	return part, nil
}

// Operated says whether the operator configures hold, now: only such holds are believed that they verify digests.
func (c *Client) Operated(hold syntax.DID) bool {
	_, ok := c.Configured(string(hold))
	return ok
}

// TakesWhole says whether hold, which the operator configures, has let user upload of late, and takes blobs by
// [Client.PutWhole], which it verifies.
func (c *Client) TakesWhole(hold, user syntax.DID) bool {
	if !c.Operated(hold) {
		return false
	}
	until, ok := c.whole.Get([2]syntax.DID{user, hold})
	return ok && c.now().Before(until)
}

// PutWhole sends all bytes of a blob in one request, where an upload takes three. The body is read once; size is its length,
// or -1. After a failure [Client.Initiate] is what tells of the hold.
func (c *Client) PutWhole(ctx context.Context, h *Hold, user syntax.DID, d digest.Digest, body io.Reader, size int64) error {
	err := c.putWhole(ctx, h, user, d, body, size)
	if key := ([2]syntax.DID{user, h.DID}); err != nil {
		c.whole.Remove(key)
	} else {
		c.whole.Add(key, c.now().Add(wholeTTL))
	}
	return err
}

func (c *Client) putWhole(ctx context.Context, h *Hold, user syntax.DID, d digest.Digest, body io.Reader, size int64) error {
	const method = "io.atcr.hold.putBlob"
	query := url.Values{"digest": {string(d)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.Endpoint+"/xrpc/"+method+"?"+query.Encode(), nil)
	if err != nil {
		return &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Err: stripURL(err)}
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if err := c.authorize(ctx, req, h, user, method); err != nil {
		return err
	}
	if !c.Operated(h.DID) { // any more; whoever tries again finds that it has to hash the bytes
		return &Error{Kind: Unavailable, Hold: h.DID, Call: method, Err: errors.New("the hold is no longer configured")}
	}
	return c.send(c.httpFor(h), h, method, req, body, size, completeTimeout, func(resp *http.Response, _ bool) error {
		var out completion
		if json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out) != nil || out.Digest == "" {
			return &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Status: resp.StatusCode, Err: errors.New("the answer names no digest")}
		}
		return out.check(h, method, d)
	})
}

// send sends the bytes of a body that belongs to another request, and has the answer read unless that is an error, after
// which no more is sent, however much the hold would read. ended says whether the body was read to its end; nobody reads
// it any more when send returns. The hold has the time given to answer after the last byte.
func (c *Client) send(client *http.Client, h *Hold, call string, req *http.Request, body io.Reader, size int64, answer time.Duration,
	read func(_ *http.Response, ended bool) error) error {
	ctx, stop := context.WithCancelCause(req.Context())
	defer stop(nil)
	lent := &lentBody{Reader: body, returned: make(chan struct{}), idle: c.partIdle, answer: answer}
	lent.stalled = time.AfterFunc(c.partIdle, func() { stop(errStalled) })
	defer lent.stalled.Stop()
	req = req.WithContext(ctx)
	req.Body, req.ContentLength = lent, size
	resp, err := client.Do(req)
	var refusal error
	if err == nil && (resp.StatusCode < 200 || resp.StatusCode > 299) {
		refusal = answerError(h, call, resp)
		stop(nil)
	}
	<-lent.returned
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
			err = cause
		}
		return &Error{Kind: Unavailable, Hold: h.DID, Call: call, Err: stripURL(err)}
	}
	defer resp.Body.Close()
	if refusal != nil {
		return refusal
	}
	return read(resp, lent.ended)
}

// maxPartHeaders is how many headers a hold may want sent with a part.
const maxPartHeaders = 32

// setHeaders sets the headers that a hold wants sent with a part to the URL that it gave out. Those that speak for us,
// or that say how the request is framed, are not the hold's to choose.
func setHeaders(to http.Header, wanted map[string]string) error {
	if len(wanted) > maxPartHeaders {
		return fmt.Errorf("the hold wants more than %d headers sent with a part", maxPartHeaders)
	}
	for name, value := range wanted {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return errors.New("the hold wants a header sent with a part that is none")
		}
		switch canonical := http.CanonicalHeaderKey(name); {
		case canonical == "Authorization", canonical == "Cookie", strings.HasPrefix(canonical, "Proxy-"):
			return fmt.Errorf("the hold wants the header %s sent with a part, which is not its to choose", canonical)
		case slices.Contains(framing, canonical): // signers list Host; net/http writes it, and these, by itself
		default:
			to.Set(canonical, value)
		}
	}
	return nil
}

var framing = []string{"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

var errStalled = errors.New("the hold took nothing more and gave no answer")

// lentBody is a reader that belongs to another request. A transport may go on reading it after Do has returned; it
// always closes it when it is through, with HTTP/2 maybe while it reads. The time between reads is the hold's; the time in
// them is the client's.
type lentBody struct {
	io.Reader
	reading  sync.Mutex
	closed   bool
	returned chan struct{}
	idle     time.Duration
	answer   time.Duration // idle, after the last byte
	stalled  *time.Timer
	ended    bool // read to the end; for others once returned is closed
}

func (l *lentBody) Read(p []byte) (int, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	if l.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	l.stalled.Stop()
	n, err := l.Reader.Read(p)
	if l.ended = errors.Is(err, io.EOF); l.ended {
		l.stalled.Reset(l.answer)
	} else {
		l.stalled.Reset(l.idle)
	}
	return n, err
}

func (l *lentBody) Close() error {
	l.reading.Lock()
	defer l.reading.Unlock()
	if !l.closed {
		l.closed = true
		close(l.returned)
	}
	return nil
}

// Complete makes the blob visible to its owner, if the parts hash to d.
func (c *Client) Complete(ctx context.Context, h *Hold, user syntax.DID, uploadID string, d digest.Digest, parts []Part) error {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	if parts == nil {
		parts = []Part{}
	}
	var out completion
	const method = "io.atcr.hold.completeUpload"
	in := map[string]any{"uploadId": uploadID, "digest": string(d), "parts": parts}
	if err := c.call(ctx, h, user, method, in, &out); err != nil {
		return err
	}
	return out.check(h, method, d)
}

// completion is a hold's answer that the blob is there.
type completion struct {
	Digest string `json:"digest"`
}

func (o completion) check(h *Hold, method string, d digest.Digest) error {
	if o.Digest != "" && o.Digest != string(d) {
		return &Error{Kind: Misconfigured, Hold: h.DID, Call: method,
			Err: fmt.Errorf("asked to complete %s, it completed another digest", d)}
	}
	return nil
}

// Abort gives an upload up. An upload that the hold does not know (any more) is fine.
func (c *Client) Abort(ctx context.Context, h *Hold, user syntax.DID, uploadID string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := c.call(ctx, h, user, "io.atcr.hold.abortUpload", map[string]string{"uploadId": uploadID}, nil)
	if k, ok := KindOf(err); ok && k == InvalidUpload {
		return nil
	}
	return err
}
