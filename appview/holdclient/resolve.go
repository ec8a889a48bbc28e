package holdclient

import (
	"context"
	"errors"
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

	certificates string // in PEM, that its own is verified with besides the system's roots; as configured
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
	conf, ok := c.Configured(string(did))
	if !ok {
		conf = names.Hold{}
	}
	c.mu.Lock()
	r, known := c.holds[did]
	c.mu.Unlock()
	if known && r.config == conf && c.now().Before(r.expires) {
		return r.hold, r.err
	}
	v, err, _ := c.resolving.Do(strings.Join([]string{string(did), conf.Endpoint, string(conf.Download), conf.CABundle}, "\n"), func() (any, error) {
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

func (c *Client) resolve(ctx context.Context, did syntax.DID, conf names.Hold) (*Hold, error) {
	h := &Hold{DID: did, Download: names.Redirect, certificates: conf.CABundle}
	if conf.Download != "" {
		h.Download = conf.Download
	}
	web, err := diddoc.ParseWebDID(string(did))
	switch {
	case conf.DID != "" && (conf.Endpoint != "" || err == nil):
		return h, c.resolveConfigured(ctx, h, conf, web)
	default:
		endpoint, err := c.Directory.HoldEndpoint(ctx, did)
		if err != nil {
			return nil, &Error{Kind: Unavailable, Hold: did, Call: "resolve", Err: err}
		}
		h.Endpoint, h.Declared = endpoint, endpoint
		return h, nil
	}
}

// resolveConfigured reads the did.json of a hold that the operator configured, with the operator's rights: a hold on a
// private address is fine. Without a configured endpoint these rights reach no further than the host of the did:web.
func (c *Client) resolveConfigured(ctx context.Context, h *Hold, conf names.Hold, web diddoc.WebDID) error {
	const call = "/.well-known/did.json"
	h.Endpoint = conf.Endpoint
	declared, err := c.declared(ctx, h)
	if err != nil {
		kind := Unavailable
		switch diddoc.Class(err) {
		case diddoc.ClassInvalidDocument, diddoc.ClassDIDMismatch, diddoc.ClassBlockedAddress:
			kind = Misconfigured
		}
		return &Error{Kind: kind, Hold: h.DID, Call: call, Err: err}
	}
	h.Declared, h.trusted = declared, true
	if h.Endpoint == "" {
		h.Endpoint = declared
		u, err := url.Parse(declared)
		h.trusted = err == nil && u.Host == web.HostPort()
	}
	return nil
}

// declared is the endpoint that the hold's DID document declares. The document comes from the configured endpoint, and
// must name this hold.
func (c *Client) declared(ctx context.Context, h *Hold) (string, error) {
	doc, err := diddoc.FetchWebDocument(ctx, c.clientsFor(h).trusted, string(h.DID), h.Endpoint)
	if err != nil {
		return "", err
	}
	declared, err := diddoc.HoldEndpoint(doc)
	if err != nil && h.Endpoint != "" {
		return h.Endpoint, nil // it declares none: it is where the operator says
	}
	return declared, err
}

// CanonicalDID is the one spelling of a did:web with a port: the seed's README writes did:web:127.0.0.1:8080.
func CanonicalDID(did syntax.DID) syntax.DID { return syntax.DID(diddoc.Canonical(string(did))) }

// handedOut checks a URL that a hold gave out for clients: not all of them look where they are sent. A hold that a
// stranger chose sends nobody to addresses inside the client's network, and none that is reached by https to plain http.
func (c *Client) handedOut(h *Hold, raw string) error {
	u, _, _, err := h.dialled(raw)
	if err != nil {
		return err
	}
	if !h.trusted && u.Scheme == "http" && strings.HasPrefix(h.Endpoint, "https:") {
		return errors.New("a hold with https gave out a URL with http")
	}
	if h.trusted {
		return nil
	}
	if err := c.HandOut(u); err != nil {
		return fmt.Errorf("the hold gave out a URL that clients must not be sent to: %w", err)
	}
	return nil
}

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
	guarded := func(c *Client) *http.Client { return c.clientsFor(h).guarded }
	if !h.trusted {
		return u, "", guarded, nil
	}
	own, err := url.Parse(h.Endpoint)
	if err != nil {
		return nil, "", nil, err
	}
	trusted := func(c *Client) *http.Client { return c.clientsFor(h).trusted }
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
