package atproto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
)

// resolveHandle asks the configured resolver, then DNS and the handle's own host. Nothing is verified here.
func (d *Directory) resolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	var first error
	if d.cfg.HandleResolverURL != "" {
		did, err := d.askResolver(ctx, h)
		if err == nil {
			return did, nil
		}
		// .test has no public DNS: the resolver's word is final.
		if h.TLD() == "test" {
			return "", err
		}
		first = err
	}
	if !h.AllowedTLD() {
		return "", fmt.Errorf("%w: the top-level domain of handle %s is reserved", ErrUnknownIdentity, h)
	}
	// bsky.social has a well-known answer for each of its handles and no DNS records.
	if h.TLD() != "test" && !strings.HasSuffix(string(h), ".bsky.social") {
		did, err := d.handles.ResolveHandleDNS(ctx, h)
		if err == nil {
			return syntax.DID(diddoc.Canonical(string(did))), nil
		}
		if first == nil && !errors.Is(err, identity.ErrHandleNotFound) {
			first = err
		}
	}
	did, err := d.handles.ResolveHandleWellKnown(ctx, h)
	switch {
	case err == nil:
		return syntax.DID(diddoc.Canonical(string(did))), nil
	case errors.Is(first, ErrUnknownIdentity), first == nil && errors.Is(err, identity.ErrHandleNotFound),
		diddoc.Class(err) == diddoc.ClassBlockedAddress:
		return "", fmt.Errorf("%w: handle %s does not resolve", ErrUnknownIdentity, h)
	}
	return "", fmt.Errorf("resolving handle %s: %w: %w", h, ErrUnavailable, quiet(err))
}

// askResolver calls com.atproto.identity.resolveHandle.
func (d *Directory) askResolver(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	u := strings.TrimSuffix(d.cfg.HandleResolverURL, "/") + "/xrpc/com.atproto.identity.resolveHandle?handle=" + url.QueryEscape(string(h))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", fmt.Errorf("asking the handle resolver: %w", err)
	}
	resp, err := d.cfg.Operator.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking the handle resolver for %s: %w: %w", h, ErrUnavailable, quiet(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusNotFound:
		return "", fmt.Errorf("%w: the handle resolver does not know %s", ErrUnknownIdentity, h)
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("asking the handle resolver for %s: %w (status %d)", h, ErrUnavailable, resp.StatusCode)
	}
	var out struct {
		DID string `json:"did"`
	}
	b, err := diddoc.ReadBody(resp.Body, diddoc.MaxBody)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return "", fmt.Errorf("asking the handle resolver for %s: %w: an answer that is not JSON", h, ErrUnavailable)
	}
	did, err := syntax.ParseDID(diddoc.Canonical(out.DID))
	if err != nil {
		return "", fmt.Errorf("asking the handle resolver for %s: %w: an answer that is not a DID", h, ErrUnavailable)
	}
	return did, nil
}

// limited makes a client whose bodies end after [diddoc.MaxBody] bytes, since indigo reads them whole.
func limited(c *http.Client) http.Client {
	out := *c
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	out.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, diddoc.MaxBody), resp.Body}
		}
		return resp, err
	})
	return out
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// quiet drops the URL, and so the query, that net/http puts into its errors.
func quiet(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
