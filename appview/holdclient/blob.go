package holdclient

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// Location is where a client can read a blob for a short time.
type Location struct {
	URL  string
	Size int64 // -1 when the hold did not say
}

// Locate asks the hold where owner's blob is. method is GET or HEAD: what the URL will be used for. reader is who
// asks; empty for an anonymous client. Holds that need no login are asked without a token first, so that a hold named
// by a stranger's record learns nothing about the reader.
func (c *Client) Locate(ctx context.Context, h *Hold, owner, reader syntax.DID, d digest.Digest, method string) (Location, error) {
	for _, as := range []syntax.DID{"", reader} {
		if l, ok := c.located.Get(locationKey{h.DID, owner, as, d, method}); ok && c.now().Before(l.expires) {
			return l.Location, nil
		}
	}
	return c.locateNow(ctx, h, owner, reader, d, method)
}

// locateNow is [Client.Locate], but the hold is asked in any case.
func (c *Client) locateNow(ctx context.Context, h *Hold, owner, reader syntax.DID, d digest.Digest, method string) (Location, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	as := syntax.DID("")
	loc, err := c.locate(ctx, h, owner, as, d, method)
	if k, ok := KindOf(err); ok && reader != "" && (k == NeedsLogin || k == Refused) {
		as = reader
		loc, err = c.locate(ctx, h, owner, as, d, method)
	}
	if err == nil {
		c.located.Add(locationKey{h.DID, owner, as, d, method}, location{loc, c.now().Add(locationTTL)})
	}
	return loc, err
}

// locationTTL is how long a located blob is not asked for again; holds sign URLs for minutes. It bounds how long a
// reader who was put out of the crew, or a blob that was deleted elsewhere, still gets a URL.
const locationTTL = 20 * time.Second

type locationKey struct {
	hold, owner, reader syntax.DID
	digest              digest.Digest
	method              string
}

type location struct {
	Location
	expires time.Time
}

func (c *Client) locate(ctx context.Context, h *Hold, owner, reader syntax.DID, d digest.Digest, method string) (Location, error) {
	const call = "com.atproto.sync.getBlob"
	query := url.Values{"did": {string(owner)}, "cid": {string(d)}, "method": {method}}
	target := h.Endpoint + "/xrpc/" + call + "?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return Location{}, &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: stripURL(err)}
	}
	req.Header.Set("Accept", "application/json")
	if reader != "" {
		if err := c.authorize(ctx, req, h, reader, call); err != nil {
			return Location{}, err
		}
	}
	resp, err := c.httpFor(h).Do(req)
	if err != nil {
		return Location{}, &Error{Kind: Unavailable, Hold: h.DID, Call: call, Err: stripURL(err)}
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		u, err := resp.Location()
		if err != nil {
			return Location{}, &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: errors.New("a redirect to nowhere")}
		}
		if err := c.handedOut(h, u.String()); err != nil {
			return Location{}, &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: err}
		}
		return Location{u.String(), -1}, nil
	case resp.StatusCode != http.StatusOK:
		return Location{}, answerError(h, call, resp)
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t == "application/json" {
		var out struct {
			URL  string `json:"url"`
			Size *int64 `json:"size"`
		}
		if json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out) == nil && out.URL != "" {
			if err := c.handedOut(h, out.URL); err != nil {
				return Location{}, &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: err}
			}
			if out.Size == nil || *out.Size < 0 {
				return Location{out.URL, -1}, nil
			}
			return Location{out.URL, *out.Size}, nil
		}
	}
	// Raw bytes: the hold serves blobs itself, at this very URL.
	return Location{target, resp.ContentLength}, nil
}

// Stat is the size of owner's blob; an [Error] of kind NotFound when the hold does not have it for owner.
func (c *Client) Stat(ctx context.Context, h *Hold, owner, reader syntax.DID, d digest.Digest) (int64, error) {
	loc, err := c.Locate(ctx, h, owner, reader, d, http.MethodHead)
	return c.size(ctx, h, loc, err)
}

// StatNow is [Client.Stat] for decisions that last, like taking a manifest: the hold is asked in any case, since a blob
// whose place is remembered may have been deleted through another replica.
func (c *Client) StatNow(ctx context.Context, h *Hold, owner, reader syntax.DID, d digest.Digest) (int64, error) {
	loc, err := c.locateNow(ctx, h, owner, reader, d, http.MethodHead)
	return c.size(ctx, h, loc, err)
}

// size is that of a blob that was located.
func (c *Client) size(ctx context.Context, h *Hold, loc Location, err error) (int64, error) {
	if err != nil || loc.Size >= 0 {
		return loc.Size, err
	}
	resp, err := c.open(ctx, h, loc, http.MethodHead, nil)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, answerError(h, "blob HEAD", resp)
	}
	if resp.ContentLength < 0 {
		return 0, &Error{Kind: Misconfigured, Hold: h.DID, Call: "blob HEAD", Err: errors.New("no Content-Length")}
	}
	return resp.ContentLength, nil
}

// Open starts to read a located blob, for holds that clients cannot reach themselves. header may carry Range and
// If-Range. The caller closes the body; the status is 200, 206 or 416.
func (c *Client) Open(ctx context.Context, h *Hold, loc Location, header http.Header) (*http.Response, error) {
	resp, err := c.open(ctx, h, loc, http.MethodGet, header)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(h, "blob GET", resp)
}

func (c *Client) open(ctx context.Context, h *Hold, loc Location, method string, header http.Header) (*http.Response, error) {
	call := "blob " + method
	for range 4 { // a hold may redirect once more to its storage
		u, host, client, err := h.dialled(loc.URL)
		if err != nil {
			return nil, &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: err}
		}
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return nil, &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: stripURL(err)}
		}
		if host != "" {
			req.Host = host
		}
		// One range only: the answer to several is of another media type, and a server may ignore them.
		if v := header.Get("Range"); v != "" && !strings.Contains(v, ",") {
			req.Header.Set("Range", v)
			if v := header.Get("If-Range"); v != "" {
				req.Header.Set("If-Range", v)
			}
		}
		req.Header.Set("Accept-Encoding", "identity") // a digest is of the bytes as stored
		resp, err := client(c).Do(req)
		if err != nil {
			return nil, &Error{Kind: Unavailable, Hold: h.DID, Call: call, Err: stripURL(err)}
		}
		next, err := resp.Location()
		if resp.StatusCode < 300 || resp.StatusCode >= 400 || err != nil {
			return resp, nil
		}
		resp.Body.Close()
		loc.URL = next.String()
	}
	return nil, &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: errors.New("too many redirects")}
}

// Delete takes the blob from user; the hold frees the storage when nobody else has it.
func (c *Client) Delete(ctx context.Context, h *Hold, user syntax.DID, d digest.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer func() { // nobody is sent to it any more, whoever asked before
		for _, key := range c.located.Keys() {
			if key.hold == h.DID && key.owner == user && key.digest == d {
				c.located.Remove(key)
			}
		}
	}()
	return c.call(ctx, h, user, "io.atcr.hold.deleteBlob", map[string]string{"digest": string(d)}, nil)
}
