package holdclient

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// simpleTTL is how long a hold that does not know reserveManifest is not asked for it again.
const simpleTTL = time.Hour

// Reserve asks the hold to keep the blobs of a manifest for user, who is about to make it public. Errors of kind
// NotFound and OtherSize name the blob, one of kind QuotaExceeded says what is used, in their Detail.
//
// Known is false when the hold has no such method (io.atcr.hold.reserveManifest is ours): nothing is checked then but
// that the user is not over the quota already.
func (c *Client) Reserve(ctx context.Context, h *Hold, user syntax.DID, manifest digest.Digest, info ManifestInfo) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const method = "io.atcr.hold.reserveManifest"
	c.mu.Lock()
	simple := c.now().Before(c.simple[h.DID])
	c.mu.Unlock()
	if !simple {
		in := struct {
			ManifestDigest digest.Digest `json:"manifestDigest"`
			Config         *BlobInfo     `json:"config,omitempty"`
			Layers         []BlobInfo    `json:"layers,omitempty"`
		}{manifest, info.Config, info.Layers}
		err := c.call(ctx, h, user, method, in, nil)
		if !unknownMethod(err) {
			return true, err
		}
		c.mu.Lock()
		if len(c.simple) > maxHolds {
			clear(c.simple)
		}
		c.simple[h.DID] = c.now().Add(simpleTTL)
		c.mu.Unlock()
	}
	return false, c.underQuota(ctx, h, user)
}

// unknownMethod says whether a hold does not have the method: XRPC servers answer 404 or 501, with a name of their
// own.
func unknownMethod(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Name != "BlobNotFound" &&
		(e.Status == http.StatusNotFound || e.Status == http.StatusNotImplemented || e.Status == http.StatusMethodNotAllowed)
}

// underQuota asks a foreign hold whether the user is over the quota already (io.atcr.hold.getQuota). One that does not
// say has none.
func (c *Client) underQuota(ctx context.Context, h *Hold, user syntax.DID) error {
	const method = "io.atcr.hold.getQuota"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Endpoint+"/xrpc/"+method+"?"+url.Values{"userDid": {string(user)}}.Encode(), nil)
	if err != nil {
		return &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Err: stripURL(err)}
	}
	resp, err := c.httpFor(h).Do(req)
	if err != nil {
		return &Error{Kind: Unavailable, Hold: h.DID, Call: method, Err: stripURL(err)}
	}
	defer resp.Body.Close()
	var q Detail
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&q) != nil {
		return nil
	}
	if q.Limit > 0 && q.TotalSize >= q.Limit {
		return &Error{Kind: QuotaExceeded, Hold: h.DID, Call: method, Detail: q}
	}
	return nil
}
