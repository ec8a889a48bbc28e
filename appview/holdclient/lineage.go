package holdclient

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// How successors are followed.
const (
	maxSuccessors  = 5
	captainTTL     = 5 * time.Minute
	captainFailTTL = 30 * time.Second
	captainTimeout = 5 * time.Second
	captainRecord  = "io.atcr.hold.captain"
)

// Lineage is a hold and those that took its place, the newest last: the captain record of each may name a successor
// (io.atcr.hold.captain). It never fails. The line ends before a hold that does not tell of its captain, so that a
// successor which is not up yet, or any more, is no reason to turn a push away that the hold before it takes. A line
// that comes back to itself, or has more than five successors, has no newest hold: it is the hold alone. The successor
// of a hold that was switched off stays known for as long as this process runs.
func (c *Client) Lineage(ctx context.Context, did syntax.DID) []syntax.DID {
	line := []syntax.DID{did}
	at := c.successor(ctx, did)
	for at.next != "" {
		if slices.Contains(line, at.next) || len(line) > maxSuccessors {
			return []syntax.DID{did}
		}
		after := c.successor(ctx, at.next)
		if after.err != nil {
			return line
		}
		line, at = append(line, at.next), after
	}
	return line
}

type succession struct {
	next    syntax.DID // who took the hold's place; empty when nobody did
	err     error      // the hold could not be asked
	expires time.Time
}

func (c *Client) successor(ctx context.Context, did syntax.DID) succession {
	before, _ := c.successors.Get(did)
	if c.now().Before(before.expires) {
		return before
	}
	v, _, _ := c.following.Do(string(did), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), captainTimeout)
		defer cancel()
		next, err := c.readSuccessor(ctx, did)
		s := succession{next, err, c.now().Add(captainTTL)}
		if err != nil {
			s.next, s.expires = before.next, c.now().Add(captainFailTTL)
		}
		c.successors.Add(did, s)
		return s, nil
	})
	return v.(succession)
}

// readSuccessor reads the captain record where the hold is. A hold that has none, or one that cannot be read, has no
// successor; an error means that it could not be asked.
func (c *Client) readSuccessor(ctx context.Context, did syntax.DID) (syntax.DID, error) {
	const method = "com.atproto.repo.getRecord"
	h, err := c.Resolve(ctx, did)
	if err != nil {
		return "", err
	}
	query := url.Values{"repo": {string(did)}, "collection": {captainRecord}, "rkey": {"self"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Endpoint+"/xrpc/"+method+"?"+query.Encode(), nil)
	if err != nil {
		return "", &Error{Kind: Misconfigured, Hold: did, Call: method, Err: stripURL(err)}
	}
	resp, err := c.httpFor(h).Do(req)
	if err != nil {
		return "", &Error{Kind: Unavailable, Hold: did, Call: method, Err: stripURL(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return "", answerError(h, method, resp)
	}
	var out struct {
		Value struct {
			Successor string `json:"successor"`
		} `json:"value"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return "", &Error{Kind: Misconfigured, Hold: did, Call: method, Status: resp.StatusCode, Err: errors.New("the answer is not a record")}
	}
	if resp.StatusCode != http.StatusOK {
		return "", nil
	}
	next, err := syntax.ParseDID(out.Value.Successor)
	if err != nil {
		return "", nil
	}
	return CanonicalDID(next), nil
}
