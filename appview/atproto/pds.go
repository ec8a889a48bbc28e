package atproto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/ipfs/go-cid"
	"golang.org/x/sync/singleflight"

	"atcr.io/operator/appview/atproto/diddoc"
)

// MaxCollection is how many bytes of records of one collection a caller of [PDS.AllRecords] should take by default.
const MaxCollection = 256 << 20

// Limits of one PDS answer.
const (
	maxRecord      = 2 << 20 // bytes of one record; PDSes accept about 1 MiB
	maxRecordPage  = 8 << 20 // bytes of one page of listRecords
	recordOverhead = 512     // bytes that a record costs beside its value
	pageSize       = 100     // records, the largest that com.atproto.repo.listRecords allows
	readTimeout    = 20 * time.Second
)

// Record is one record as a PDS returns it.
type Record struct {
	URI   syntax.ATURI    `json:"uri"`
	CID   string          `json:"cid"`
	Value json.RawMessage `json:"value"`
}

// Resolver is the part of [Directory] that a PDS client needs.
type Resolver interface {
	ResolveDID(ctx context.Context, did syntax.DID) (*Identity, error)
}

// Sessions sends requests as a user. The session fills in scheme, host and Authorization: req.URL holds the path
// and query only. It may send req twice, so a body needs GetBody (bytes.Reader has it). Answers of any status come
// back as they are; [ErrUnauthorized] means that there is no live session, and [ErrUnavailable] that the PDS could
// not be reached. App passwords and OAuth are both behind this one method.
type Sessions interface {
	Do(ctx context.Context, did syntax.DID, req *http.Request) (*http.Response, error)
}

// PDS is a client of every PDS. Reads are public; writes are in pds_write.go. It is safe for concurrent use.
type PDS struct {
	dir      Resolver
	client   *http.Client
	sessions Sessions
	now      func() time.Time
	tokens   *lru.Cache[tokenKey, serviceToken]
	flight   singleflight.Group
}

// NewPDS makes a client. client must be guarded ([diddoc.NewClient]), since users choose their PDS, and have no
// total timeout. sessions may be nil for a client that only reads.
func NewPDS(dir Resolver, client *http.Client, sessions Sessions) *PDS {
	tokens, _ := lru.New[tokenKey, serviceToken](10_000)
	return &PDS{dir: dir, client: client, sessions: sessions, now: time.Now, tokens: tokens}
}

// At sets the clock by which service tokens are used again until they end; call it before the client is used.
func (p *PDS) At(now func() time.Time) *PDS {
	p.now = now
	return p
}

// GetRecord reads one record; [ErrRecordNotFound] when it is not there.
func (p *PDS) GetRecord(ctx context.Context, did syntax.DID, collection, rkey string) (*Record, error) {
	q := url.Values{"repo": {string(did)}, "collection": {collection}, "rkey": {rkey}}
	var out Record
	if err := p.query(ctx, did, "com.atproto.repo.getRecord", q, maxRecord, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// ListRecords reads one page of at most limit (1 to 100, 0 is 100) records, newest record key first unless reverse.
// The next cursor is empty after the last page.
func (p *PDS) ListRecords(ctx context.Context, did syntax.DID, collection, cursor string, limit int, reverse bool) ([]Record, string, error) {
	if limit <= 0 || limit > pageSize {
		limit = pageSize
	}
	q := url.Values{"repo": {string(did)}, "collection": {collection}, "limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if reverse {
		q.Set("reverse", "true")
	}
	var out struct {
		Cursor  string   `json:"cursor"`
		Records []Record `json:"records"`
	}
	if err := p.query(ctx, did, "com.atproto.repo.listRecords", q, maxRecordPage, &out); err != nil {
		return nil, "", err
	}
	return out.Records, out.Cursor, nil
}

// AllRecords walks every page of a collection. It stops at the first error, at a server that repeats a cursor, and with
// an [ErrUnavailable] after limit bytes of records: whoever chose the PDS must not fill our memory with a list without
// end.
func (p *PDS) AllRecords(ctx context.Context, did syntax.DID, collection string, limit int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var size int64
		for cursor := ""; ; {
			page, next, err := p.ListRecords(ctx, did, collection, cursor, pageSize, false)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range page {
				if size += int64(len(r.Value)) + recordOverhead; size > limit {
					yield(Record{}, fmt.Errorf("listing %s of %s: %w: more than %d bytes of records", collection, did, ErrUnavailable, limit))
					return
				}
				if !yield(r, nil) {
					return
				}
			}
			if next == "" || next == cursor || len(page) == 0 {
				return
			}
			cursor = next
		}
	}
}

// GetBlob reads a blob of at most limit bytes and checks that it hashes to cid.
func (p *PDS) GetBlob(ctx context.Context, did syntax.DID, blob string, limit int64) ([]byte, error) {
	const doing = "com.atproto.sync.getBlob"
	want, err := cid.Decode(blob)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.80q is not a CID", doing, ErrBlobNotFound, blob)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	resp, err := p.get(ctx, did, doing, url.Values{"did": {string(did)}, "cid": {blob}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := answerError(doing, resp)
		// The reference PDS answers 400 InvalidRequest for a blob that it does not have.
		var pe *PDSError
		if errors.As(err, &pe) && (pe.Status == http.StatusNotFound || pe.Status == http.StatusBadRequest) && errors.Is(err, ErrRefused) {
			pe.kind = ErrBlobNotFound
		}
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, quiet(err))
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: longer than %d bytes", doing, ErrBlobTooLarge, limit)
	}
	got, err := want.Prefix().Sum(b)
	if err != nil || !got.Equals(want) {
		return nil, fmt.Errorf("%s: %w: the bytes do not hash to %s", doing, ErrUnavailable, blob)
	}
	return b, nil
}

// LatestCommit is the CID and revision of the head of a repository (com.atproto.sync.getLatestCommit).
func (p *PDS) LatestCommit(ctx context.Context, did syntax.DID) (commit, rev string, err error) {
	var out struct {
		CID string `json:"cid"`
		Rev string `json:"rev"`
	}
	if err := p.query(ctx, did, "com.atproto.sync.getLatestCommit", url.Values{"did": {string(did)}}, maxRecord, &out); err != nil {
		return "", "", err
	}
	return out.CID, out.Rev, nil
}

func (p *PDS) query(ctx context.Context, did syntax.DID, method string, q url.Values, limit int64, out any) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	resp, err := p.get(ctx, did, method, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(method, resp, limit, out)
}

func (p *PDS) get(ctx context.Context, did syntax.DID, method string, q url.Values) (*http.Response, error) {
	who, err := p.dir.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	if who.PDSEndpoint == "" {
		return nil, fmt.Errorf("%s: %w: %s names no PDS", method, ErrUnknownIdentity, did)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, who.PDSEndpoint+"/xrpc/"+method+"?"+q.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: PDS of %s: %w: %w", method, did, ErrUnavailable, quiet(err))
	}
	return resp, nil
}

// decode reads a successful JSON answer into out, and makes an error of any other.
func decode(doing string, resp *http.Response, limit int64, out any) error {
	if resp.StatusCode/100 != 2 {
		return answerError(doing, resp)
	}
	b, err := diddoc.ReadBody(resp.Body, limit)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(out); err != nil {
		return fmt.Errorf("%s: %w: an answer that is not JSON of the expected shape", doing, ErrUnavailable)
	}
	return nil
}

// DecodeAnswer reads a successful answer of a PDS into out, and makes the typed error of any other.
func DecodeAnswer(doing string, resp *http.Response, out any) error {
	return decode(doing, resp, maxRecord, out)
}

func answerError(doing string, resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, diddoc.MaxBody))
	return pdsError(doing, resp.StatusCode, errorName(b), resp.Header)
}

// errorName takes the XRPC error name out of an error body.
func errorName(b []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(b, &e) != nil {
		return ""
	}
	return ErrorName(e.Error)
}

// ErrorName is an XRPC error name that somebody else's server gave, for logs: names are identifiers, and anything else is
// not repeated.
func ErrorName(name string) string {
	if len(name) > 64 {
		return ""
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return name
}
