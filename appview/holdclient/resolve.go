package holdclient

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/names"
)

// Hold is a hold that can be called.
type Hold struct {
	DID      syntax.DID
	Endpoint string         // where we call it: scheme://host[:port]
	Declared string         // what its DID document says; differs when an operator configured another endpoint
	Download names.Download // how clients get its blobs
	trusted  bool           // endpoint comes from configuration: private addresses are fine
}

// How long a resolved hold is kept, and how long a failed resolution is not tried again.
const (
	resolveTTL     = 5 * time.Minute
	resolveFailTTL = 5 * time.Second
)

type resolved struct {
	hold    *Hold
	err     error
	expires time.Time
	config  names.Hold
}

// Resolve finds the hold that did names. An endpoint from the runtime file is used only after the did.json there has
// named the same DID.
func (c *Client) Resolve(ctx context.Context, did syntax.DID) (*Hold, error) {
	conf := c.configured(did)
	c.mu.Lock()
	r, ok := c.holds[did]
	c.mu.Unlock()
	if ok && r.config == conf && c.now().Before(r.expires) {
		return r.hold, r.err
	}
	v, err, _ := c.resolving.Do(string(did)+"\n"+conf.Endpoint+"\n"+string(conf.Download), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		h, err := c.resolve(ctx, did, conf)
		ttl := resolveTTL
		if err != nil {
			ttl = resolveFailTTL
		}
		c.mu.Lock()
		if len(c.holds) > maxHolds {
			clear(c.holds)
		}
		c.holds[did] = resolved{h, err, c.now().Add(ttl), conf}
		c.mu.Unlock()
		return h, err
	})
	if err != nil {
		return nil, err
	}
	return v.(*Hold), nil
}

func (c *Client) configured(did syntax.DID) names.Hold {
	for _, h := range c.Runtime().Holds {
		if CanonicalDID(syntax.DID(h.DID)) == did {
			return h
		}
	}
	return names.Hold{}
}

func (c *Client) resolve(ctx context.Context, did syntax.DID, conf names.Hold) (*Hold, error) {
	h := &Hold{DID: did, Download: names.Redirect}
	if conf.Download != "" {
		h.Download = conf.Download
	}
	if conf.Endpoint == "" {
		endpoint, err := c.Directory.HoldEndpoint(ctx, did)
		if err != nil {
			return nil, &Error{Kind: Unavailable, Hold: did, Call: "resolve", Err: err}
		}
		h.Endpoint = strings.TrimRight(endpoint, "/")
		h.Declared = h.Endpoint
		return h, nil
	}
	h.trusted = true
	h.Endpoint = strings.TrimRight(conf.Endpoint, "/")
	declared, err := c.didDocument(ctx, h)
	if err != nil {
		return nil, err
	}
	h.Declared = declared
	return h, nil
}

// didDocument reads the did.json at a configured endpoint, insists that it names the hold, and returns the endpoint
// that it declares.
func (c *Client) didDocument(ctx context.Context, h *Hold) (string, error) {
	const call = "/.well-known/did.json"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Endpoint+call, nil)
	if err != nil {
		return "", &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: err}
	}
	resp, err := c.Trusted.Do(req)
	if err != nil {
		return "", &Error{Kind: Unavailable, Hold: h.DID, Call: call, Err: stripURL(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", &Error{Kind: kindOfAnswer(resp.StatusCode, ""), Hold: h.DID, Call: call, Status: resp.StatusCode}
	}
	body, err := diddoc.ReadBody(resp.Body, diddoc.MaxBody)
	if err != nil {
		return "", &Error{Kind: Unavailable, Hold: h.DID, Call: call, Err: err}
	}
	doc, err := diddoc.Parse(body)
	if err != nil {
		return "", &Error{Kind: Misconfigured, Hold: h.DID, Call: call, Err: err}
	}
	if CanonicalDID(syntax.DID(doc.ID)) != h.DID {
		return "", &Error{Kind: Misconfigured, Hold: h.DID, Call: call,
			Err: fmt.Errorf("the service at %s is %.100q, not this hold", h.Endpoint, doc.ID)}
	}
	declared, err := diddoc.HoldEndpoint(doc)
	if err != nil {
		return h.Endpoint, nil // it declares none: it is where the operator says
	}
	return strings.TrimRight(declared, "/"), nil
}

// CanonicalDID is the one spelling of a did:web with a port: the seed's README writes did:web:127.0.0.1:8080.
func CanonicalDID(did syntax.DID) syntax.DID { return syntax.DID(diddoc.Canonical(string(did))) }

// dialled rewrites a URL that a hold gave out so that it is reached the way the hold itself is: a URL on the declared
// host is dialled at the configured endpoint, with the declared Host header.
func (h *Hold) dialled(raw string) (u *url.URL, host string, client func(*Client) *http.Client, err error) {
	u, err = url.Parse(raw)
	if err != nil {
		return nil, "", nil, fmt.Errorf("the hold gave out a URL that is none")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, "", nil, fmt.Errorf("the hold gave out a URL that is not http or https")
	}
	guarded := func(c *Client) *http.Client { return c.Guarded }
	if !h.trusted {
		return u, "", guarded, nil
	}
	own, err := url.Parse(h.Endpoint)
	if err != nil {
		return nil, "", nil, err
	}
	trusted := func(c *Client) *http.Client { return c.Trusted }
	if u.Scheme == own.Scheme && u.Host == own.Host {
		return u, "", trusted, nil
	}
	if declared, err := url.Parse(h.Declared); err == nil && u.Scheme == declared.Scheme && u.Host == declared.Host {
		host = u.Host
		u.Scheme, u.Host = own.Scheme, own.Host
		return u, host, trusted, nil
	}
	return u, "", guarded, nil
}
